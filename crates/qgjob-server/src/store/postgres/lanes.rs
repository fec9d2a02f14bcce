//! Commands on their way to the database. Those that wait together share one transaction: one commit for all. Two lanes
//! take turns, so that one gathers and computes while the other one waits for its commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::future::{BoxFuture, join, join_all, try_join_all};
use qgjob_core::model::event::Event;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::types::ToSql;

use super::columns::Statement;
use super::feed::Feed;
use super::flush;
use super::needs::Needs;
use super::transaction::{Open, Param, Stop, Verb, bounded};
use super::work::Work;
use crate::store::{Answer, Error, Result, Rules};

/// Lanes of a server.
const LANES: usize = 2;
/// Most commands in one transaction, so that the first of them does not wait for long.
const MOST: usize = 512;
/// Commands that may wait for a lane before callers have to wait to hand theirs over.
const QUEUE: usize = 4096;
/// How often a transaction that met another one is run again, and the pause before the first time, which doubles.
const AGAIN: (u32, Duration) = (5, Duration::from_millis(5));

/// A command and its answer back.
pub(super) trait Command: Send {
    /// Says what the verb needs.
    fn needs(&self, needs: &mut Needs);
    /// Runs the verb and keeps its result. It may be run again in another transaction.
    fn run(&mut self, work: &mut Work);
    /// Sends the result: what was committed began after the event of this number, or nothing was.
    fn answer(self: Box<Self>, committed: std::result::Result<u64, &Stop>);
}

struct Typed<T, N, V, S> {
    needs: N,
    verb: V,
    settle: S,
    result: Option<Verb<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, N, V, S> Command for Typed<T, N, V, S>
where
    T: Send,
    N: Fn(&mut Needs) + Send,
    V: FnMut(&mut Work) -> Verb<T> + Send,
    S: Fn(&mut T, u64) + Send,
{
    fn needs(&self, needs: &mut Needs) {
        (self.needs)(needs);
    }

    fn run(&mut self, work: &mut Work) {
        // A bug in one verb must not end the lane.
        let verb = |work: &mut Work| {
            catch_unwind(AssertUnwindSafe(|| (self.verb)(work)))
                .unwrap_or_else(|_| Err(Stop::Corrupt("a verb of the store panicked".to_owned())))
        };
        self.result = Some(work.undoable(verb));
    }

    fn answer(self: Box<Self>, committed: std::result::Result<u64, &Stop>) {
        let result = match (self.result, committed) {
            (Some(Err(stop)), _) => Err(stop.into()),
            (_, Err(stop)) => Err(copy(stop)),
            (Some(Ok(mut value)), Ok(before)) => {
                (self.settle)(&mut value, before);
                Ok(value)
            }
            (None, Ok(_)) => Err(Error::Unavailable("the command did not run".to_owned())),
        };
        // Whoever asked may have left; what was committed stays.
        _ = self.reply.send(result);
    }
}

/// The same failure for each of those whom it concerns.
fn copy(stop: &Stop) -> Error {
    match stop {
        Stop::Sql(error) => Error::from_sql(error),
        Stop::Unreachable(why) => Error::Unavailable(why.clone()),
        Stop::Corrupt(what) => Error::Corrupt(what.clone()),
        Stop::Refused(refusal) => Error::Corrupt(refusal.to_string()),
    }
}

/// The lanes' own things.
#[derive(Clone)]
pub(super) struct Lanes {
    pub pool: Pool,
    pub feed: Arc<Feed>,
    pub rules: Rules,
}

/// Where commands are handed over.
pub(super) struct Inbox {
    commands: mpsc::Sender<Box<dyn Command>>,
}

impl Inbox {
    /// Runs `verb` on what `needs` names, in a lane's next transaction; answers when it is durable. `settle` puts in what
    /// is known only then: the number of the last event before the transaction's first.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        needs: impl Fn(&mut Needs) + Send + 'static,
        verb: impl FnMut(&mut Work) -> Verb<T> + Send + 'static,
        settle: impl Fn(&mut T, u64) + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::Unavailable("the store has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let command = Typed { needs, verb, settle, result: None, reply };
        self.commands.send(Box::new(command)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
impl Inbox {
    /// Commands that wait for a lane.
    pub(super) fn waiting(&self) -> usize {
        QUEUE - self.commands.capacity()
    }
}

impl Lanes {
    /// Starts the lanes. They end when nobody can hand over commands any more.
    pub(super) fn start(self) -> Inbox {
        let (commands, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..LANES {
            tokio::spawn(self.clone().work(Arc::clone(&waiting)));
        }
        Inbox { commands }
    }

    async fn work(self, waiting: Arc<Mutex<mpsc::Receiver<Box<dyn Command>>>>) {
        loop {
            let mut batch = Vec::new();
            if waiting.lock().await.recv_many(&mut batch, MOST).await == 0 {
                return;
            }
            self.carry_out(batch).await;
        }
    }

    async fn carry_out(&self, mut batch: Vec<Box<dyn Command>>) {
        let committed = self.commit_together(&mut batch).await;
        match committed {
            // Something in one of them cannot be written: the others must not suffer for it.
            Err(stop) if stop.is_of_the_data() && batch.len() > 1 => {
                tracing::warn!("a transaction of {} commands is run one by one: {stop:?}", batch.len());
                for command in batch {
                    let mut alone = vec![command];
                    let committed = self.commit_together(&mut alone).await;
                    answer(alone, &committed);
                }
            }
            committed => answer(batch, &committed),
        }
    }

    /// Runs all in one transaction; answers the number of the last event before its first.
    async fn commit_together(&self, batch: &mut [Box<dyn Command>]) -> Verb<u64> {
        let mut pause = AGAIN.1;
        for _ in 1..AGAIN.0 {
            match self.try_together(batch).await {
                Err(stop) if stop.is_clash() => {
                    tracing::debug!("a transaction met another one and is run again: {stop:?}");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                committed => return committed,
            }
        }
        self.try_together(batch).await
    }

    async fn try_together(&self, batch: &mut [Box<dyn Command>]) -> Verb<u64> {
        let transaction = async {
            let open = self.begin().await?;
            let mut needs = Needs::default();
            batch.iter().for_each(|command| command.needs(&mut needs));
            let mut work = Work::new(self.rules);
            needs.load(open.client()?, &mut work).await?;
            batch.iter_mut().for_each(|command| command.run(&mut work));
            commit(open, work).await
        };
        let (before, events) = bounded(transaction).await?;
        self.feed.deliver(events).await;
        Ok(before)
    }

    /// Ends the connections that lie in the pool: what ended one of them has probably ended the others, too.
    pub(super) fn forget_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Begins a transaction. A connection that ended while it lay in the pool is replaced.
    pub(super) async fn begin(&self) -> Verb<Open> {
        match Open::begin(self.pool.get().await?).await {
            Err(stop) if stop.is_lost() => {
                self.forget_idle();
                Open::begin(self.pool.get().await?).await
            }
            begun => begun,
        }
    }

    /// Runs one transaction of its own, again if it met another one. What is refused changes nothing.
    pub(super) async fn alone_one<T>(
        &self,
        run: impl for<'a> Fn(&'a Open, &'a mut Work) -> BoxFuture<'a, Verb<T>>,
    ) -> Result<Answer<T>> {
        let (mut left, mut pause) = AGAIN;
        loop {
            let transaction = async {
                let open = self.begin().await?;
                let mut work = Work::new(self.rules);
                match run(&open, &mut work).await {
                    Ok(value) => Ok((Ok(value), commit(open, work).await?.1)),
                    Err(Stop::Refused(refusal)) => {
                        open.roll_back().await?;
                        Ok((Err(refusal), Vec::new()))
                    }
                    Err(stop) => Err(stop),
                }
            };
            match bounded(transaction).await {
                Ok((answer, events)) => {
                    self.feed.deliver(events).await;
                    return Ok(answer);
                }
                Err(stop) if stop.is_clash() && left > 1 => {
                    left -= 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(stop) => return Err(stop.into()),
            }
        }
    }

    /// As [`Lanes::alone_one`], where nothing can be refused.
    pub(super) async fn alone<T>(
        &self,
        run: impl for<'a> Fn(&'a Open, &'a mut Work) -> BoxFuture<'a, Verb<T>>,
    ) -> Result<T> {
        let answer = self.alone_one(run).await?;
        answer.map_err(|refusal| Stop::Refused(refusal).into())
    }
}

fn answer(batch: Vec<Box<dyn Command>>, committed: &Verb<u64>) {
    for command in batch {
        command.answer(committed.as_ref().copied());
    }
}

/// Writes and commits: all statements travel together. The numbers of events are taken last, by an update whose row
/// stays locked until the commit: so the order of numbers is the order of commits.
async fn commit(open: Open, work: Work) -> Verb<(u64, Vec<Event>)> {
    let c = open.client()?;
    let mut statements = flush::statements(&work);
    let Some(events) = flush::events(&work) else {
        send(c, &statements, "COMMIT").await?;
        open.finished();
        return Ok((0, Vec::new()));
    };
    // Attempts and events need the numbers. All else goes before them, so that others wait for less.
    let numbered = statements.iter().position(|statement| statement.sql.contains("counters"));
    let numbered = numbered.unwrap_or(statements.len());
    let count: i64 = work.events().len().try_into().unwrap_or(i64::MAX);
    let take = Statement {
        sql: "UPDATE counters SET before = value, value = value + $1 WHERE name = 'event'".to_owned(),
        params: vec![Box::new(count)],
    };
    statements.insert(numbered, take);
    statements.push(events);
    let before =
        Statement { sql: "SELECT before FROM counters WHERE name = 'event'".to_owned(), params: Vec::new() };
    statements.push(before);
    // Wakes the other servers' feeds; it says nothing, the table does.
    let rows = send(c, &statements, "NOTIFY qgjob; COMMIT").await?;
    let before =
        rows.and_then(|row| row.try_get::<_, i64>(0).ok()).and_then(|before| u64::try_from(before).ok());
    let before = before.ok_or_else(|| Stop::Corrupt("the counter of events is missing".to_owned()))?;
    open.finished();
    Ok((before, work.told(before)))
}

/// Sends all statements without waiting in between, and `end` after them; answers the last one's row. When one fails,
/// those after it do nothing, and `end` undoes all.
async fn send(
    c: &deadpool_postgres::Object,
    statements: &[Statement],
    end: &str,
) -> Verb<Option<tokio_postgres::Row>> {
    let prepared = try_join_all(statements.iter().map(|statement| c.prepare_cached(&statement.sql))).await?;
    let params: Vec<Vec<Param<'_>>> = statements.iter().map(params).collect();
    let sent = prepared.iter().zip(&params).map(|(statement, params)| c.query(statement, params));
    // Polled in this order, and what is polled is sent.
    let (results, ended) = join(join_all(sent), c.batch_execute(end)).await;
    let mut last = None;
    for result in results {
        last = result?.into_iter().next();
    }
    ended?;
    Ok(last)
}

fn params(statement: &Statement) -> Vec<Param<'_>> {
    statement.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
}
