//! From submit to start: jobs are offered at a fixed rate, however the server keeps up, and an agent starts them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Result;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::Done;
use crate::agent::Agent;
use crate::scene::{Scene, number_of};

/// Connections that submits share; a submit that finds none free makes one more.
const CONNECTIONS: usize = 32;

/// Offers `rate` jobs a second for `span`, and answers how long each waited from when it was due until its lease
/// reached the agent.
pub async fn measure(scene: &Scene, agent: Agent, rate: f64, span: Duration) -> Result<Done> {
    let jobs = (rate * span.as_secs_f64()) as usize;
    let due: RefCell<HashMap<usize, Instant>> = RefCell::default();
    let mut took = Vec::with_capacity(jobs);
    let working = agent.work(|lease| {
        let due = due.borrow_mut().remove(&number_of(&lease.test)).expect("it was submitted");
        took.push(due.elapsed());
        took.len() < jobs
    });
    let (offered, worked) = tokio::join!(offer(scene, jobs, rate, &due), working);
    offered.and(worked)?;
    Ok(Done { jobs, took })
}

async fn offer(scene: &Scene, jobs: usize, rate: f64, due: &RefCell<HashMap<usize, Instant>>) -> Result<()> {
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(scene.admin.connect().await?);
    }
    let idle = Rc::new(RefCell::new(idle));
    let (began, sent) = (Instant::now(), Cell::new(0));
    let mut sending = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while sent.get() < jobs || !sending.is_empty() {
        tokio::select! {
            Some(answered) = sending.next() => { let answered: Result<()> = answered; answered? },
            _ = ticks.tick(), if sent.get() < jobs => {
                let by_now = ((began.elapsed().as_secs_f64() * rate) as usize).min(jobs);
                for number in sent.replace(by_now)..by_now {
                    due.borrow_mut().insert(number, began + Duration::from_secs_f64(number as f64 / rate));
                    let idle = Rc::clone(&idle);
                    sending.push(async move {
                        let kept = idle.borrow_mut().pop();
                        let mut connection = match kept {
                            Some(connection) => connection,
                            None => scene.admin.connect().await?,
                        };
                        let (body, headers) = (scene.run(number, 1), "content-type: application/json\r\n");
                        connection.call("POST", "/api/v1/runs", headers, body.as_bytes()).await?;
                        idle.borrow_mut().push(connection);
                        Ok(())
                    });
                }
            }
        }
    }
    Ok(())
}
