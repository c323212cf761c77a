//! Does the tasks of the bench with tokio-postgres.

use std::env;
use std::error::Error;
use std::future::Future;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{interval_at, timeout, Instant};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long one task may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The connection of one client.
struct Session {
    tag: String,
    conn: Client,
}

/// The way to the pooler: with TLS if there is an authority to verify by.
#[derive(Clone)]
struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Target {
    fn from_env() -> Outcome<Target> {
        let mut config = Config::new();
        config
            .host(env::var("DRIVERS_HOST")?)
            .port(env::var("DRIVERS_PORT")?.parse()?)
            .user(env::var("DRIVERS_USER")?)
            .password(env::var("DRIVERS_PASSWORD")?)
            .dbname(env::var("DRIVERS_DATABASE")?)
            .ssl_mode(SslMode::Disable);
        let ca = env::var("DRIVERS_CA")?;
        if ca.is_empty() {
            return Ok(Target { config, tls: None });
        }
        config.ssl_mode(SslMode::Require);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Target { config, tls: Some(MakeRustlsConnect::new(tls)) })
    }

    async fn connect(&self, tag: &str) -> Outcome<Session> {
        let mut config = self.config.clone();
        config.application_name(tag);
        let conn = match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        Ok(Session { tag: tag.to_string(), conn })
    }
}

/// Fails unless got is want.
fn check<T: PartialEq + std::fmt::Debug>(got: T, want: T) -> Outcome {
    if got == want {
        return Ok(());
    }
    let brief = |value: T| format!("{value:?}").chars().take(200).collect::<String>();
    Err(format!("got {}, want {}", brief(got), brief(want)).into())
}

/// Fails unless the result is an error of that SQLSTATE.
fn fails<T>(result: Result<T, tokio_postgres::Error>, want: &SqlState) -> Outcome {
    match result {
        Err(error) if error.code() == Some(want) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(format!("want error {}", want.code()).into()),
    }
}

impl Session {
    /// Runs a query for a text and a number in each row.
    async fn rows(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Vec<(String, i32)>, tokio_postgres::Error> {
        let rows = self.conn.query(sql, args).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The only row that a client of that tag should see.
    fn row(&self, n: i32) -> Vec<(String, i32)> {
        vec![(self.tag.clone(), n)]
    }

    async fn query(&self, _: &Target) -> Outcome {
        for n in 1..=20 {
            let want: Vec<_> = (1..=n).map(|i| (self.tag.clone(), i)).collect();
            let sql = "select $1::text, n from generate_series(1, $2::int) n";
            check(self.rows(sql, &[&self.tag, &n]).await?, want.clone())?;
            let rows = self.conn.query_typed(sql, &[(&self.tag, Type::TEXT), (&n, Type::INT4)]).await?;
            check(rows.iter().map(|row| (row.get(0), row.get(1))).collect(), want)?;
            let simple = self.conn.simple_query(&format!("select '{}', {n}", self.tag)).await?;
            let Some(SimpleQueryMessage::Row(row)) = simple.iter().find(|m| matches!(m, SimpleQueryMessage::Row(_))) else {
                return Err("no row".into());
            };
            check((row.get(0), row.get(1)), (Some(&self.tag[..]), Some(&n.to_string()[..])))?;
        }
        Ok(())
    }

    async fn prepared(&self, _: &Target) -> Outcome {
        let shared = self.conn.prepare("select $1::text, $2::int * 2").await?;
        let typed = self.conn.prepare_typed("select $1, $2 * 2", &[Type::VARCHAR, Type::INT4]).await?;
        let own = self.conn.prepare(&format!("select '{}', $1::int", self.tag)).await?;
        for n in 0..20 {
            for statement in [&shared, &typed] {
                let row = self.conn.query_one(statement, &[&self.tag, &n]).await?;
                check((row.get(0), row.get(1)), (self.tag.clone(), 2 * n))?;
            }
            let row = self.conn.query_one(&own, &[&n]).await?;
            check((row.get(0), row.get(1)), (self.tag.clone(), n))?;
        }
        Ok(())
    }

    async fn transaction(&mut self, _: &Target) -> Outcome {
        let tag = self.tag.clone();
        for commit in [false, true] {
            let mut tx = self.conn.transaction().await?;
            let pid: i32 = tx.query_one("select pg_backend_pid()", &[]).await?.get(0);
            let insert = tx.prepare("insert into tagged values ($1, $2)").await?;
            for n in 0..3 {
                tx.execute(&insert, &[&tag, &n]).await?;
            }
            let savepoint = tx.savepoint("s").await?;
            savepoint.execute("delete from tagged where tag = $1", &[&tag]).await?;
            savepoint.rollback().await?;
            let rows = tx.query("select tag, n from tagged where tag = $1 order by n", &[&tag]).await?;
            let got: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            check(got, (0..3).map(|n| (tag.clone(), n)).collect())?;
            // A portal is read in steps.
            let portal = tx.bind("select $1::text, n from generate_series(0, 99) n", &[&tag]).await?;
            for from in [0, 50] {
                let rows = tx.query_portal(&portal, 50).await?;
                let got: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
                check(got, (from..from + 50).map(|n| (tag.clone(), n)).collect())?;
            }
            let again: i32 = tx.query_one("select pg_backend_pid()", &[]).await?.get(0);
            check(again, pid)?;
            if commit {
                tx.commit().await?;
            } else {
                tx.rollback().await?;
            }
            let count: i64 = self.conn.query_one("select count(*) from tagged where tag = $1", &[&tag]).await?.get(0);
            check(count, if commit { 3 } else { 0 })?;
        }
        Ok(())
    }

    /// Sends requests that are awaited together before it reads a reply.
    async fn batch(&self, _: &Target) -> Outcome {
        let statement = self.conn.prepare("select $1::text, $2::int").await?;
        for _ in 0..5 {
            let numbers: Vec<i32> = (0..30).collect();
            let rows = try_join_all(numbers.iter().map(|n| async {
                let (tag, n) = (&self.tag, *n);
                self.conn.query_one(&statement, &[tag, &n]).await
            }))
            .await?;
            let got: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            check(got, numbers.iter().map(|n| (self.tag.clone(), *n)).collect())?;
            let texts: Vec<String> = (0..10).map(|n| format!("select $1::text, {n}")).collect();
            let got = try_join_all(texts.iter().map(|text| async { self.rows(text, &[&self.tag]).await })).await?;
            check(got, (0..10).map(|n| self.row(n)).collect())?;
        }
        Ok(())
    }

    async fn batch_error(&self, _: &Target) -> Outcome {
        let divide = self.conn.prepare("select $1::text, 10 / $2::int").await?;
        for _ in 0..5 {
            let by = [1, 0, 2, 0, 5];
            let results = join_all(by.iter().map(|n| async {
                let (tag, n) = (&self.tag, *n);
                self.conn.query_one(&divide, &[tag, &n]).await
            }))
            .await;
            for (n, result) in by.iter().zip(results) {
                if *n == 0 {
                    fails(result, &SqlState::DIVISION_BY_ZERO)?;
                } else {
                    let row = result?;
                    check((row.get(0), row.get(1)), (self.tag.clone(), 10 / n))?;
                }
            }
            fails(self.conn.batch_execute("select 1; select 1 / 0; select 2").await, &SqlState::DIVISION_BY_ZERO)?;
            check(self.rows("select $1::text, 1", &[&self.tag]).await?, self.row(1))?;
        }
        Ok(())
    }

    async fn error(&mut self, _: &Target) -> Outcome {
        let tag = format!("{}-error", self.tag);
        for _ in 0..5 {
            fails(self.rows("selec $1", &[&1]).await, &SqlState::SYNTAX_ERROR)?;
            fails(self.rows("select * from nowhere", &[]).await, &SqlState::UNDEFINED_TABLE)?;
            let divide = self.conn.prepare("select $1::text, 1 / $2::int").await?;
            fails(self.conn.query_one(&divide, &[&self.tag, &0]).await, &SqlState::DIVISION_BY_ZERO)?;
            let row = self.conn.query_one(&divide, &[&self.tag, &1]).await?;
            check((row.get(0), row.get(1)), (self.tag.clone(), 1))?;
            let tx = self.conn.transaction().await?;
            tx.execute("insert into tagged values ($1, 1)", &[&tag]).await?;
            fails(tx.execute("insert into tagged values ($1, 1)", &[&tag]).await, &SqlState::UNIQUE_VIOLATION)?;
            tx.rollback().await?;
            let sql = "select $1::text, count(*)::int from tagged where tag = $2";
            check(self.rows(sql, &[&self.tag, &tag]).await?, self.row(0))?;
        }
        Ok(())
    }

    async fn copy(&self, _: &Target) -> Outcome {
        let tag = format!("{}-copy", self.tag);
        let lines: Vec<String> = (0..500).map(|n| format!("{tag}\t{n}\tbody {tag}\n")).collect();
        let mut sink = pin!(self.conn.copy_in("copy tagged from stdin").await?);
        for line in &lines {
            sink.feed(Bytes::from(line.clone())).await?;
        }
        check(sink.finish().await?, 500)?;
        let sql = format!("copy (select * from tagged where tag = '{tag}' order by n) to stdout");
        let chunks: Vec<Bytes> = self.conn.copy_out(&sql).await?.try_collect().await?;
        check(String::from_utf8(chunks.concat())?, lines.concat())?;

        let mut sink = pin!(self.conn.copy_in("copy tagged from stdin").await?);
        let mut ended = Ok(());
        for _ in 0..1000 {
            ended = sink.feed(Bytes::from_static(b"no\tnumber\t\n")).await;
            if ended.is_err() {
                break;
            }
        }
        if ended.is_ok() {
            fails(sink.finish().await, &SqlState::INVALID_TEXT_REPRESENTATION)?;
        }
        // Given up in the middle.
        let mut sink = Box::pin(self.conn.copy_in::<_, Bytes>("copy tagged from stdin").await?);
        sink.send(Bytes::from(format!("{tag}\t1000\tnever\n"))).await?;
        drop(sink);
        let sql = "select $1::text, count(*)::int from tagged where tag = $2";
        check(self.rows(sql, &[&self.tag, &tag]).await?, self.row(500))
    }

    async fn cancel(&self, target: &Target) -> Outcome {
        let token = self.conn.cancel_token();
        let mut sleep = pin!(self.conn.query("select pg_sleep(60)", &[]));
        // The driver does not wait until a request has had its effect, so a second
        // one follows only when the first must have come before the query.
        let first = Instant::now() + Duration::from_millis(300);
        let mut again = interval_at(first, Duration::from_secs(3));
        let result = loop {
            tokio::select! {
                result = &mut sleep => break result,
                _ = again.tick() => match &target.tls {
                    Some(tls) => token.cancel_query(tls.clone()).await?,
                    None => token.cancel_query(NoTls).await?,
                },
            }
        };
        fails(result, &SqlState::QUERY_CANCELED)?;
        check(self.rows("select $1::text, 1", &[&self.tag]).await?, self.row(1))
    }

    async fn large(&self, _: &Target) -> Outcome {
        let body = format!("{}{}", self.tag, "x".repeat(1 << 20));
        check(self.rows("select $1::text, 1", &[&body]).await?, vec![(body.clone(), 1)])?;
        let tag = format!("{}-large", self.tag);
        self.conn.execute("insert into tagged values ($1, 1, $2)", &[&tag, &body]).await?;
        let mut rows = pin!(self.conn.query_raw("select body, n from tagged where tag = $1", [&tag]).await?);
        while let Some(row) = rows.next().await {
            check(row?.get(0), body.clone())?;
        }
        Ok(())
    }

    async fn settings(&self, _: &Target) -> Outcome {
        let mut want = self.tag.clone();
        for n in 0..10 {
            let got = self.rows("select current_setting('application_name'), $1::int", &[&n]).await?;
            check(got, vec![(want, n)])?;
            want = format!("{}-{n}", self.tag);
            self.conn.batch_execute(&format!("set application_name = '{want}'")).await?;
        }
        Ok(())
    }
}

/// What a task does with a client's session.
type Task = for<'a> fn(&'a mut Session, &'a Target) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

const TASKS: [(&str, Task); 10] = [
    ("query", |s, t| Box::pin(s.query(t))),
    ("prepared", |s, t| Box::pin(s.prepared(t))),
    ("transaction", |s, t| Box::pin(s.transaction(t))),
    ("batch", |s, t| Box::pin(s.batch(t))),
    ("batch-error", |s, t| Box::pin(s.batch_error(t))),
    ("error", |s, t| Box::pin(s.error(t))),
    ("copy", |s, t| Box::pin(s.copy(t))),
    ("cancel", |s, t| Box::pin(s.cancel(t))),
    ("large", |s, t| Box::pin(s.large(t))),
    ("settings", |s, t| Box::pin(s.settings(t))),
];

/// Does a task on the session that a client has; whoever fails gets a new one.
async fn run(session: &mut Option<Session>, tag: &str, target: &Target, task: Task) -> Outcome {
    let mut current = match session.take() {
        Some(current) => current,
        None => target.connect(tag).await?,
    };
    timeout(PATIENCE, task(&mut current, target)).await??;
    *session = Some(current);
    Ok(())
}

/// An error with what caused it: the driver's own text leaves that out.
fn describe(error: &(dyn Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text.replace('\n', " / ")
}

#[tokio::main]
async fn main() -> Outcome {
    let target = Target::from_env()?;
    let count: usize = env::var("DRIVERS_CLIENTS")?.parse()?;
    let mut clients: Vec<(String, Option<Session>)> = (0..count).map(|i| (format!("tokio-postgres-{i}"), None)).collect();
    for (name, task) in TASKS {
        let target = &target;
        let done = join_all(clients.iter_mut().map(|(tag, session)| async move {
            run(session, tag, target, task).await.map_err(|error| format!("{tag}: {}", describe(error.as_ref())))
        }))
        .await;
        let errors: Vec<String> = done.into_iter().filter_map(Result::err).collect();
        match errors.first() {
            None => println!("{name} pass"),
            Some(first) => println!("{name} fail {} of {count} clients: {first}", errors.len()),
        }
    }
    Ok(())
}
