//! Clients that submit, each the next run as soon as the last is answered.

use std::cell::Cell;
use std::io::Result;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::Done;
use crate::scene::Scene;

/// `clients` connections submit runs of `tests` jobs for as long as `span`.
pub async fn closed_loop(scene: &Scene, clients: usize, tests: usize, span: Duration) -> Result<Done> {
    let until = Instant::now() + span;
    let next = Rc::new(Cell::new(0));
    let clients = (0..clients).map(|_| {
        let next = Rc::clone(&next);
        async move {
            let mut connection = scene.admin.connect().await?;
            let mut took = Vec::new();
            while Instant::now() < until {
                let body = scene.run(next.replace(next.get() + 1), tests);
                let began = Instant::now();
                let headers = "content-type: application/json\r\n";
                connection.call("POST", "/api/v1/runs", headers, body.as_bytes()).await?;
                took.push(began.elapsed());
            }
            Ok::<_, std::io::Error>(took)
        }
    });
    let took = try_join_all(clients).await?.concat();
    Ok(Done { jobs: took.len() * tests, took })
}

/// `clients` connections submit `jobs` runs of one job, numbered from `first`.
pub async fn singly(scene: &Scene, clients: usize, first: usize, jobs: usize) -> Result<()> {
    let next = Rc::new(Cell::new(first));
    let clients = (0..clients).map(|_| {
        let next = Rc::clone(&next);
        async move {
            let mut connection = scene.admin.connect().await?;
            while next.get() < first + jobs {
                let body = scene.run(next.replace(next.get() + 1), 1);
                let headers = "content-type: application/json\r\n";
                connection.call("POST", "/api/v1/runs", headers, body.as_bytes()).await?;
            }
            Ok::<_, std::io::Error>(())
        }
    });
    try_join_all(clients).await.map(drop)
}

/// Submits `jobs` jobs in runs of 100.
pub async fn fill(scene: &Scene, jobs: usize) -> Result<()> {
    let mut connection = scene.admin.connect().await?;
    for number in 0..jobs / 100 {
        let body = scene.run(number, 100);
        connection
            .call("POST", "/api/v1/runs", "content-type: application/json\r\n", body.as_bytes())
            .await?;
    }
    Ok(())
}
