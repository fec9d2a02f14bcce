//! The schema, and servers of different ages.

use super::*;
use crate::store::postgres::migrate::{ALL, Migration, apply};

async fn migrated(database: &Database, migrations: &[Migration]) -> std::result::Result<(), OpenError> {
    let pool = Options::read(&database.url()).unwrap().pool().unwrap();
    apply(pool.get().await.unwrap(), migrations).await
}

const FIRST: Migration = Migration { sql: "CREATE TABLE things (id bigint PRIMARY KEY)", works_with: 1 };
/// Adds what servers that do not know it can ignore.
const ADDS: Migration = Migration { sql: "ALTER TABLE things ADD COLUMN size bigint", works_with: 1 };
/// Servers that do not know it would be wrong.
const BREAKS: Migration = Migration { sql: "ALTER TABLE things RENAME TO others", works_with: 3 };

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_make_one_schema() {
    let database = Cluster::shared().database().await;
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = database.url();
        starts.spawn(async move { Postgres::open(&url, Rules::default()).await.map(|_| ()) });
    }
    for started in starts.join_all().await {
        started.unwrap();
    }
    let client = database.connect().await;
    let applied = client.query("SELECT number FROM migrations", &[]).await.unwrap();
    assert_eq!(applied.len(), ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let database = Cluster::shared().database().await;
    let broken =
        Migration { sql: "CREATE TABLE half (id bigint); CREATE TABLE things (broken", works_with: 2 };
    migrated(&database, &[FIRST, broken]).await.unwrap_err();
    let client = database.connect().await;
    let there = "SELECT 1 FROM pg_tables WHERE tablename IN ('things', 'half', 'migrations')";
    assert!(client.query(there, &[]).await.unwrap().is_empty());
    migrated(&database, &[FIRST, ADDS]).await.unwrap();
    migrated(&database, &[FIRST, ADDS]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_used_if_it_works_with_this_server() {
    let database = Cluster::shared().database().await;
    migrated(&database, &[FIRST, ADDS]).await.unwrap();
    migrated(&database, &[FIRST]).await.expect("the second step only adds");
    let changed = migrated(&database, &[FIRST, FIRST]).await.unwrap_err();
    assert!(matches!(changed, OpenError::MigrationChanged { number: 2 }), "{changed}");
    migrated(&database, &[FIRST, ADDS, BREAKS]).await.unwrap();
    for known in [&[FIRST][..], &[FIRST, ADDS]] {
        let newer = migrated(&database, known).await.unwrap_err();
        assert!(matches!(newer, OpenError::Newer { found: 3, .. }), "{newer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_schema_was_replaced_is_not_ready() {
    let database = Cluster::shared().database().await;
    let store = server(&database).await;
    let now = "2026-11-22T10:00:00Z".parse().unwrap();
    store.probe(now).await.unwrap();
    let newer = format!("INSERT INTO migrations VALUES ({0}, '', {0})", ALL.len() + 1);
    database.connect().await.batch_execute(&newer).await.unwrap();
    assert!(matches!(store.probe(now).await, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_used_is_named_without_the_password() {
    let database = Cluster::shared().database().await;
    let absent = database.url().replace(&database.name, "absent").replace("qgjob@", "qgjob:s3cret@");
    for (url, expected) in [
        (absent.as_str(), "\"absent\" does not exist"),
        ("postgres://q:s3cret@localhost", "names no database"),
        ("postgres:///q?password=s3cret", "names no host"),
        ("postgres://q:s3cret@127.0.0.1:1/q", "Connection refused"),
        ("postgres://q:s3cret@h/q?sslmode=s3cret", "sslmode"),
    ] {
        let error = Postgres::open(url, Rules::default()).await.err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{url}: {error}");
    }
    let client = database.connect().await;
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    client.batch_execute(latin).await.unwrap();
    let latin = Postgres::open(&database.url().replace(&database.name, "latin"), Rules::default()).await;
    assert!(matches!(latin, Err(OpenError::Encoding(encoding)) if encoding == "LATIN1"));
}
