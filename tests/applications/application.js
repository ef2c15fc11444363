// What the applications in Node.js do: the same as those in Python, see application.py.
'use strict'

const fs = require('node:fs')
const { setTimeout: sleep } = require('node:timers/promises')

const number = (name) => Number(process.env[name])
const range = (name) => process.env[name].split('-').map(Number)
const [callers, firstId] = [number('CALLERS'), number('FIRST_ID')]
const [thinkMs, longS] = [range('THINK_MS'), range('LONG_S')]
const between = ([least, most]) => least + Math.random() * (most - least)
const oneIn = (name) => Math.random() * number(name) < 1

let done = false
process.stdin.on('end', () => (done = true)).resume()

const withAJob = new Set()

// `job(kind, id, sleepsS)` for one caller after the other's fashion; a promise of the end of all.
async function run(job) {
  // What would end a process that does not look out for it.
  process.on('uncaughtException', (error) => say(`uncaught ${told(error)}`))
  await Promise.all(Array.from({ length: callers }, (_, caller) => call(caller, job)))
}

async function call(caller, job) {
  for (let jobs = 0; !done; jobs++) {
    const id = firstId + caller + callers * jobs
    const kind = oneIn('ONE_IN_LONG') ? 'long' : oneIn('ONE_IN_TRANSACTION') ? 'transaction' : 'single'
    const sleepsS = kind === 'long' ? between(longS) : 0
    const began = performance.now()
    const error = await job(kind, id, sleepsS).then(
      () => null,
      (error) => error,
    )
    const stallMs = Math.round(performance.now() - began - sleepsS * 1000)
    say(error === null ? `done ${id} ${stallMs}` : `failed ${id} ${stallMs} ${told(error)}`)
    if (error === null && !withAJob.has(caller) && withAJob.add(caller).size === callers) say('ready')
    await sleep(between(thinkMs))
  }
}

function told(error) {
  return `${error.name} ${error.code ?? '-'}: ${String(error.message).split('\n')[0]}`
}

function say(line) {
  fs.writeSync(1, `${line}\n`)
}

const insert = (id) => `insert into jobs (id) values (${id})`
const long = (id, sleepsS) => `insert into jobs (id) select ${id} from pg_sleep(${sleepsS})`

module.exports = { run, insert, long, pool: number('POOL'), lifetimeS: number('LIFETIME_S'), patienceS: number('PATIENCE_S') }
