// node-postgres through lastcall: what works, and what its connections see of a drain that begins when this says "ready".
//
// Where to connect is in libpq's environment variables. Whatever is not as it must be ends this with an error.
'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const { readFileSync } = require('node:fs')
const pg = require('pg')
const Cursor = require('pg-cursor')

const rows = Array.from({ length: 100 }, (_, index) => index + 1)
const encrypted = { ssl: { ca: readFileSync(process.env.PGSSLROOTCERT) } }

async function main() {
  await work()
  // A pool has an error of its own for connections that nobody uses.
  const pool = new pg.Pool(settings('idle'))
  assert.deepStrictEqual((await pool.query('select 41 + $1::int as sum', [1])).rows, [{ sum: 42 }])
  const idle = once(pool, 'error', { signal: AbortSignal.timeout(30_000) }).catch((error) => [error])
  const cancelled = await connected('cancelled')
  const sleeping = new pg.Query('select pg_sleep(600)')
  const cancelledEnd = end(cancelled)
  const error = once(sleeping, 'error')
  cancelled.query(sleeping)
  const transaction = await connected('transaction')
  await transaction.query('begin')
  const cursor = transaction.query(new Cursor('select generate_series(1, $1::int) as n', [100]))
  const read = await cursor.read(50)
  const running = await connected('running')
  const answer = running.query("select 'the row' as text from pg_sleep($1)", [3])
  say('ready')

  const [told] = await idle
  say(`idle: ${told.code}`)
  assert.strictEqual(pool.totalCount, 0)

  new pg.Client({ ...settings('cancels'), ssl: false }).cancel(cancelled, sleeping)
  say(`cancelled: ${(await error)[0].code}, then ${await cancelledEnd}`)

  read.push(...(await cursor.read(100)))
  assert.deepStrictEqual(read.map((row) => row.n), rows)
  await cursor.close()
  const transactionEnd = end(transaction)
  await transaction.query('commit')
  say(`transaction: ${read.length} rows, then ${await transactionEnd}`)

  const runningEnd = end(running)
  const { text } = (await answer).rows[0]
  say(`running: ${text}, then ${await runningEnd}`)
}

// Everything that is special about this driver, before the drain.
async function work() {
  const client = await connected('works')
  const types = await client.query('select $1::int as int, $2::bytea as bytea, $3::text as nothing, $4::jsonb as json', [
    42, Buffer.from([0, 255]), null, { a: [1] },
  ])
  assert.deepStrictEqual(types.rows, [{ int: 42, bytea: Buffer.from([0, 255]), nothing: null, json: { a: [1] } }])

  await client.query('create table with_pg (n int)')
  await client.query('begin')
  await client.query('insert into with_pg values (0)')
  await client.query('rollback')
  // One named statement, all sent before the first is answered.
  const named = (n) => client.query({ name: 'inserts', text: 'insert into with_pg values ($1) returning n', values: [n] })
  const answers = await Promise.all(rows.map(named))
  assert.deepStrictEqual(answers.map((answer) => answer.rows[0].n), rows)

  const cursor = client.query(new Cursor('select n from with_pg order by n'))
  const read = []
  for (let some; (some = await cursor.read(7)).length > 0; read.push(...some));
  assert.deepStrictEqual(read.map((row) => row.n), rows)

  await assert.rejects(client.query('select 1 / $1::int', [0]), { code: '22012' })
  await client.query('listen with_pg')
  const heard = once(client, 'notification')
  await client.query("select pg_notify('with_pg', 'the payload')")
  assert.strictEqual((await heard)[0].payload, 'the payload')
  await client.end()
}

function settings(name) {
  return { ...encrypted, application_name: `node-${name}` }
}

async function connected(name) {
  const client = new pg.Client(settings(name))
  await client.connect()
  return client
}

// The SQLSTATE of the first error that no query is to blame for. Behind it comes one about the end of the stream.
function end(client) {
  return new Promise((resolve) => client.on('error', (error) => resolve(error.code)))
}

function say(line) {
  console.log(line)
}

main().then(
  () => process.exit(),
  (error) => {
    console.error(error)
    process.exit(1)
  },
)
