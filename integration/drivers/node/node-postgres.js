// node-postgres: unnamed statements, named ones where a query has a name.
'use strict'

const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const pg = require('pg')
const copy = require('pg-copy-streams')
const Cursor = require('pg-cursor')
const { target, check, fails, body } = require('./run.js')

exports.Client = class {
  constructor (tag) {
    this.tag = tag
    this.batchError = 'node-postgres has no pipelines in which one error skips what follows'
  }

  async connect () {
    this.conn = new pg.Client({ ...target, application_name: this.tag })
    // An error while nothing runs is seen by the next query.
    this.conn.on('error', () => {})
    await this.conn.connect()
  }

  close () {
    return this.conn.end()
  }

  async rows (text, values, name) {
    const result = await this.conn.query({ text, values, name, rowMode: 'array' })
    return result.rows
  }

  async query () {
    for (let n = 1; n <= 20; n++) {
      const want = Array.from({ length: n }, (_, i) => [this.tag, i + 1])
      check(await this.rows('select $1::text, n from generate_series(1, $2::int) n', [this.tag, n]), want)
      check(await this.rows(`select '${this.tag}', n from generate_series(1, ${n}) n`), want)
    }
  }

  async prepared () {
    for (let n = 0; n < 20; n++) {
      check(await this.rows('select $1::text, $2::int * 2', [this.tag, n], 'shared'), [[this.tag, 2 * n]])
      check(await this.rows('select $1::text, $2::int * 2', [this.tag, n], 'again'), [[this.tag, 2 * n]])
      check(await this.rows(`select '${this.tag}', $1::text`, ['own'], 'own'), [[this.tag, 'own']])
    }
    await this.rows('begin')
    const cursor = this.conn.query(new Cursor('select $1::text, n from generate_series(0, 199) n', [this.tag], { rowMode: 'array' }))
    for (let n = 0; n < 200; n += 50) {
      check(await cursor.read(50), Array.from({ length: 50 }, (_, i) => [this.tag, n + i]))
    }
    await cursor.close()
    await this.rows('commit')
  }

  async transaction () {
    for (const end of ['rollback', 'commit']) {
      await this.rows('begin')
      const pid = await this.rows('select pg_backend_pid()')
      for (let n = 0; n < 3; n++) await this.rows('insert into tagged values ($1, $2)', [this.tag, n], 'insert')
      await this.rows('savepoint s')
      await this.rows('delete from tagged where tag = $1', [this.tag])
      await this.rows('rollback to savepoint s')
      check(await this.rows('select tag, n from tagged where tag = $1 order by n', [this.tag], 'mine'), [0, 1, 2].map((n) => [this.tag, n]))
      check(await this.rows('select pg_backend_pid()'), pid)
      await this.rows(end)
      check(await this.rows('select count(*)::int from tagged where tag = $1', [this.tag]), [[end === 'commit' ? 3 : 0]])
    }
  }

  // Queries that are given at once wait in the driver, one behind the other.
  async batch () {
    for (let round = 0; round < 5; round++) {
      const steps = Array.from({ length: 10 }, (_, n) => n)
      const got = await Promise.all(steps.map((n) => this.rows(`select $1::text, $2::int, ${n % 3}`, [this.tag, n], `step${n % 3}`)))
      check(got, steps.map((n) => [[this.tag, n, n % 3]]))
      const results = await this.conn.query({ text: steps.map((n) => `select '${this.tag}', ${n}`).join(';'), rowMode: 'array' })
      check(results.map((result) => result.rows), steps.map((n) => [[this.tag, n]]))
    }
  }

  async error () {
    const tag = this.tag + '-error'
    for (let round = 0; round < 5; round++) {
      await fails('42601', this.rows('selec $1', [1]))
      await fails('42P01', this.rows('select * from nowhere', [], 'nowhere'))
      await fails('22012', this.rows('select $1::text, 1 / $2::int', [this.tag, 0], 'divide'))
      check(await this.rows('select $1::text, 1 / $2::int', [this.tag, 1], 'divide'), [[this.tag, 1]])
      await this.rows('begin')
      await this.rows('insert into tagged values ($1, 1)', [tag], 'insert-error')
      await fails('23505', this.rows('insert into tagged values ($1, 1)', [tag], 'insert-error'))
      await fails('25P02', this.rows('select 1'))
      await this.rows('rollback')
      check(await this.rows('select $1::text, count(*)::int from tagged where tag = $2', [this.tag, tag]), [[this.tag, 0]])
    }
  }

  async copy () {
    const tag = this.tag + '-copy'
    const lines = Array.from({ length: 500 }, (_, n) => `${tag}\t${n}\tbody ${tag}\n`)
    await pipeline(Readable.from(lines), this.conn.query(copy.from('copy tagged from stdin')))
    const out = []
    for await (const chunk of this.conn.query(copy.to(`copy (select * from tagged where tag = '${tag}' order by n) to stdout`))) out.push(chunk)
    check(Buffer.concat(out).toString(), lines.join(''))
    const broken = Readable.from(Array(1000).fill('no\tnumber\t\n'))
    await fails('22P02', pipeline(broken, this.conn.query(copy.from('copy tagged from stdin'))))
    check(await this.rows('select $1::text, count(*)::int from tagged where tag = $2', [this.tag, tag]), [[this.tag, 500]])
  }

  async cancel () {
    const query = new pg.Query('select pg_sleep(60)')
    const ended = new Promise((resolve, reject) => {
      query.on('error', reject)
      query.on('end', resolve)
    })
    this.conn.query(query)
    const requests = []
    const again = setInterval(() => {
      const canceller = new pg.Client(target)
      requests.push(new Promise((resolve) => canceller.connection.on('end', resolve)))
      canceller.connection.on('error', () => {})
      canceller.cancel(this.conn, query)
    }, 300)
    try {
      await fails('57014', ended)
    } finally {
      clearInterval(again)
    }
    await Promise.all(requests)
    check(await this.rows('select $1::text', [this.tag]), [[this.tag]])
  }

  async large () {
    const want = body(this.tag)
    check(await this.rows('select $1::text', [want]), [[want]])
    check(await this.rows('select $1::text', [want], 'large'), [[want]])
    await this.rows('insert into tagged values ($1, 1, $2)', [this.tag + '-large', want])
    check(await this.rows('select body from tagged where tag = $1', [this.tag + '-large']), [[want]])
  }

  async settings () {
    let want = this.tag
    for (let n = 0; n < 10; n++) {
      check(await this.rows('show application_name'), [[want]])
      want = `${this.tag}-${n}`
      await this.rows(`set application_name = '${want}'`)
      check(await this.rows("select current_setting('application_name'), $1::text", [this.tag], 'setting'), [[want, this.tag]])
    }
  }
}
