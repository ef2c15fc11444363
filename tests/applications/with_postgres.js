// postgres.js as its documentation shows it. Its pool is inside of it.
'use strict'

const postgres = require('postgres')
const { run, pool, lifetimeS } = require('./application.js')

const sql = postgres({ max: pool, ...(lifetimeS ? { max_lifetime: lifetimeS } : {}), onnotice: () => {} })

async function job(kind, id, sleepsS) {
  if (kind === 'long') return sql`insert into jobs (id) select ${id}::bigint from pg_sleep(${sleepsS})`
  if (kind === 'single') return sql`insert into jobs (id) values (${id})`
  return sql.begin(async (sql) => {
    await sql`select 1`
    await sql`insert into jobs (id) values (${id})`
  })
}

run(job).then(() => sql.end({ timeout: 5 })).then(() => process.exit())
