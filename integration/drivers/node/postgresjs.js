// postgres.js: prepares every query under a name, and pipelines by itself.
'use strict'

const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const postgres = require('postgres')
const { target, check, fails, body } = require('./run.js')

const { database, ...place } = target

exports.Client = class {
  constructor (tag) {
    this.tag = tag
  }

  async connect () {
    this.sql = postgres({
      ...place,
      database,
      max: 1,
      fetch_types: false,
      max_lifetime: null,
      onnotice: () => {},
      connection: { application_name: this.tag },
    })
    await this.sql`select 1`
  }

  close () {
    return this.sql.end({ timeout: 5 })
  }

  async query () {
    const { sql, tag } = this
    for (let n = 1; n <= 20; n++) {
      const want = Array.from({ length: n }, (_, i) => [tag, i + 1])
      check([...await sql`select ${tag}::text, n from generate_series(1, ${n}::int) n`.values()], want)
      check([...await sql.unsafe(`select '${tag}', n from generate_series(1, ${n}) n`).values()], want)
    }
  }

  async prepared () {
    const { sql, tag } = this
    for (let n = 0; n < 20; n++) {
      check([...await sql`select ${tag}::text, ${n}::int * 2`.values()], [[tag, 2 * n]])
      check([...await sql.unsafe(`select '${tag}', $1::text`, ['own'], { prepare: true }).values()], [[tag, 'own']])
      check([...await sql.unsafe(`select $1::text, ${n}`, [tag], { prepare: true }).values()], [[tag, n]])
    }
    await sql.begin(async (sql) => {
      let n = 0
      await sql`select ${tag}::text as tag, n from generate_series(0, 199) n`.cursor(50, (rows) => {
        for (const row of rows) check({ ...row }, { tag, n: n++ })
      })
      check(n, 200)
    })
  }

  async transaction () {
    const { tag } = this
    const undo = new Error('undo')
    const count = async () => (await this.sql`select count(*)::int from tagged where tag = ${tag}`.values())[0][0]
    for (const commit of [false, true]) {
      await this.sql.begin(async (sql) => {
        const [pid] = await sql`select pg_backend_pid()`.values()
        await Promise.all([0, 1, 2].map((n) => sql`insert into tagged values (${tag}, ${n})`))
        await sql.savepoint(async (sql) => {
          await sql`delete from tagged where tag = ${tag}`
          throw undo
        }).catch((error) => check(error, undo))
        check([...await sql`select tag, n from tagged where tag = ${tag} order by n`.values()], [0, 1, 2].map((n) => [tag, n]))
        check((await sql`select pg_backend_pid()`.values())[0], pid)
        if (!commit) throw undo
      }).catch((error) => { if (error !== undo) throw error })
      check(await count(), commit ? 3 : 0)
    }
  }

  // The driver sends what is given at once before it reads the first reply, each
  // query with a Sync of its own.
  async batch () {
    const { sql, tag } = this
    const steps = Array.from({ length: 30 }, (_, n) => n)
    for (let round = 0; round < 5; round++) {
      const got = await Promise.all(steps.map((n) => sql.unsafe(`select $1::text, $2::int, ${n % 7}`, [tag, n], { prepare: n % 2 === 0 }).values()))
      check(got.map((rows) => [...rows]), steps.map((n) => [[tag, n, n % 7]]))
    }
  }

  async batchError () {
    const { sql, tag } = this
    for (let round = 0; round < 5; round++) {
      const divide = (by) => sql`select ${tag}::text, 1 / ${by}::int`.values()
      const steps = await Promise.allSettled([
        divide(1), divide(0), sql.unsafe(`select $1::text, ${round}`, [tag], { prepare: true }).values(),
        sql.unsafe('selec $1', [1], { prepare: true }), divide(1),
      ])
      check(steps.map((step) => step.status === 'fulfilled' ? [...step.value] : step.reason.code),
        [[[tag, 1]], '22012', [[tag, round]], '42601', [[tag, 1]]])
    }
  }

  async error () {
    const { sql, tag } = this
    for (let round = 0; round < 5; round++) {
      await fails('42601', sql`selec ${1}`)
      await fails('42P01', sql`select * from nowhere where n = ${1}`)
      await fails('22012', sql`select ${tag}::text, 1 / ${0}::int`)
      check([...await sql`select ${tag}::text, 1 / ${1}::int`.values()], [[tag, 1]])
      await fails('23505', sql.begin(async (sql) => {
        for (let i = 0; i < 2; i++) await sql`insert into tagged values (${tag + '-error'}, 1)`
      }))
      check([...await sql`select ${tag}::text, count(*)::int from tagged where tag = ${tag + '-error'}`.values()], [[tag, 0]])
    }
  }

  async copy () {
    const { sql } = this
    const tag = this.tag + '-copy'
    // Of more than one buffer of a stream (16 KiB), the driver does not always
    // deliver the end.
    const lines = Array.from({ length: 200 }, (_, n) => `${tag}\t${n}\tbody ${tag}\n`)
    await pipeline(Readable.from(lines), await sql`copy tagged from stdin`.writable())
    const out = []
    const reader = await sql.unsafe(`copy (select * from tagged where tag = '${tag}' order by n) to stdout`).readable()
    for await (const chunk of reader) out.push(chunk)
    check(Buffer.concat(out).toString(), lines.join(''))
    check([...await sql`select ${this.tag}::text, count(*)::int from tagged where tag = ${tag}`.values()], [[this.tag, 200]])
  }

  async cancel () {
    const { sql, tag } = this
    const query = sql`select pg_sleep(60)`
    const ended = fails('57014', query)
    // A request that comes before the server has begun with the query is lost, as
    // it is in Postgres, and query.cancel() sends only one in its life. The driver
    // does not wait until a request has had its effect, either: a second one
    // follows only when the first must have been lost.
    const { canceller } = query
    const request = () => canceller(query).catch(() => {})
    const first = setTimeout(request, 300)
    const again = setInterval(request, 3000)
    try {
      await ended
    } finally {
      clearTimeout(first)
      clearInterval(again)
    }
    check([...await sql`select ${tag}::text`.values()], [[tag]])
  }

  async large () {
    const { sql, tag } = this
    const want = body(tag)
    check([...await sql`select ${want}::text`.values()], [[want]])
    await sql`insert into tagged values (${tag + '-large'}, 1, ${want})`
    check([...await sql`select body from tagged where tag = ${tag + '-large'}`.values()], [[want]])
  }

  async settings () {
    const { sql, tag } = this
    let want = tag
    for (let n = 0; n < 10; n++) {
      check([...await sql`select current_setting('application_name'), ${tag}::text`.values()], [[want, tag]])
      want = `${tag}-${n}`
      await sql.unsafe(`set application_name = '${want}'`)
    }
  }
}
