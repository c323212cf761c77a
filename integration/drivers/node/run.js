// Does the tasks of the bench with one driver, named by the first argument. A
// driver is a module with a class Client: it has a method for each task, or a
// string that says why there is none.
'use strict'

const fs = require('node:fs')
const { isDeepStrictEqual } = require('node:util')

const TASKS = ['query', 'prepared', 'transaction', 'batch', 'batch-error', 'error', 'copy', 'cancel', 'large', 'settings']
const PATIENCE = 120000 // milliseconds that one task may take

const env = process.env

exports.target = {
  host: env.DRIVERS_HOST,
  port: Number(env.DRIVERS_PORT),
  user: env.DRIVERS_USER,
  password: env.DRIVERS_PASSWORD,
  database: env.DRIVERS_DATABASE,
  ssl: env.DRIVERS_CA ? { ca: fs.readFileSync(env.DRIVERS_CA), rejectUnauthorized: true } : false,
}

// check fails unless got is want.
exports.check = (got, want) => {
  if (isDeepStrictEqual(got, want)) return
  const text = (value) => (JSON.stringify(value) ?? String(value)).slice(0, 200)
  throw new Error(`got ${text(got)}, want ${text(want)}`)
}

// fails waits for the error with that SQLSTATE.
exports.fails = async (state, work) => {
  let result
  try {
    result = await work
  } catch (error) {
    if (error.code === state) return
    throw error
  }
  throw new Error(`got ${JSON.stringify(result)?.slice(0, 200)}, want error ${state}`)
}

// body is a value of a megabyte.
exports.body = (tag) => tag + 'x'.repeat(1 << 20)

const within = (promise) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${PATIENCE} ms`)), PATIENCE)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function main () {
  const name = process.argv[2]
  const { Client } = require({ 'node-postgres': './node-postgres.js', 'postgres.js': './postgresjs.js' }[name])
  const clients = Array.from({ length: Number(env.DRIVERS_CLIENTS) }, (_, i) => new Client(`${name}-${i}`))
  await within(Promise.all(clients.map((client) => client.connect())))
  const broken = new Set()
  for (const task of TASKS) {
    const method = task.replace('-e', 'E')
    if (typeof clients[0][method] === 'string') {
      console.log(task, 'none', clients[0][method])
      continue
    }
    const errors = []
    await Promise.all(clients.map(async (client) => {
      try {
        await within((async () => {
          if (broken.delete(client)) {
            await client.close()
            await client.connect()
          }
          await client[method]()
        })())
      } catch (error) {
        broken.add(client)
        const at = /\w+\.js:\d+/.exec((error.stack ?? '').split('\n').filter((line) => !/run\.js|node_modules/.test(line)).join('\n'))
        errors.push(`${client.tag}: ${error.message} (${error.code ?? ''} ${at ?? ''})`.replaceAll('\n', ' / '))
      }
    }))
    if (errors.length > 0) {
      console.log(task, 'fail', `${errors.length} of ${clients.length} clients: ${errors[0]}`)
    } else {
      console.log(task, 'pass')
    }
  }
  await within(Promise.all(clients.map((client) => client.close())))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
