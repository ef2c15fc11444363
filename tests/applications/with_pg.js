// node-postgres' pool as its documentation shows it.
'use strict'

const pg = require('pg')
const { run, insert, long, pool: max, lifetimeS, patienceS } = require('./application.js')

const pool = new pg.Pool({ max, idleTimeoutMillis: 0, connectionTimeoutMillis: patienceS * 1000, maxLifetimeSeconds: lifetimeS })
// Of connections that nobody uses; without this, such an error would end the process.
pool.on('error', () => {})

async function job(kind, id, sleepsS) {
  if (kind === 'long') return pool.query(long('$1::bigint', '$2'), [id, sleepsS])
  if (kind === 'single') return pool.query(insert('$1'), [id])
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('select 1')
    await client.query(insert('$1'), [id])
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw error
  } finally {
    client.release()
  }
}

run(job).then(() => pool.end()).then(() => process.exit())
