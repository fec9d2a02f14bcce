//! Keeping the board current: by the store's events, and by reading what those do not tell.

use jiff::Timestamp;
use qgjob_core::model::attempt::Took;
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::group;
use qgjob_core::queue::board::{Board, Health, Waiting};
use qgjob_core::queue::forecast::PRIOR_S;
use qgjob_core::queue::placement::Parameters;

use super::{Dispatch, Stale};
use crate::forecasts::Forecasts;
use crate::store::{self, GroupRow, Scope, Store, WaitingJob};

impl Dispatch {
    /// Follows events, and notes what must be read again.
    pub(super) async fn follow(&self, events: &[Event], stale: &mut Stale) {
        self.forecasts.learn(events).await;
        for event in events {
            match &event.fact {
                Fact::JobQueued { group_id, .. } if !self.board().knows(*group_id) => {
                    stale.board |= !self.learn_group(*group_id).await;
                }
                Fact::AppVersionCreated { app_version_id } => {
                    let org = event.org_id.as_ref();
                    let groups = org.map(|org| self.board().without_build(org, app_version_id));
                    let groups = groups.unwrap_or_default();
                    for group in groups {
                        stale.board |= !self.learn_group(group).await;
                    }
                }
                Fact::DeviceChanged { .. } | Fact::AgentChanged { .. } => stale.devices = true,
                Fact::AttemptEnded { took: Some(Took { group_id, install: Some(_), .. }), .. } => {
                    self.predict_installs(*group_id, event.at);
                }
                _ => {}
            }
            match (event.job_id, &event.org_id) {
                (Some(job), _) => self.board().follow(job, event.at, &event.fact),
                (None, Some(org)) => self.board().follow_limit(org, event.at, &event.fact),
                (None, None) => {}
            }
        }
    }

    async fn learn_group(&self, id: group::Id) -> bool {
        match self.store.group(id).await {
            Ok(Some(row)) => put_group(&mut self.board(), &self.forecasts, row, self.clock.now()),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, group = id, "cannot read a group; the board is read anew");
                return false;
            }
        }
        true
    }

    /// After an install for a group was learned from: what it says of all groups of the app.
    fn predict_installs(&self, id: group::Id, now: Timestamp) {
        let mut board = self.board();
        let app = board.group(id).and_then(|group| group.build.as_ref()).map(|build| build.app_id.clone());
        for group in app.map(|app| board.of_app(&app)).unwrap_or_default() {
            predict_install(&mut board, &self.forecasts, group, now);
        }
    }

    /// Reads the devices; answers what is stale after it.
    pub(super) async fn refresh_devices(&self) -> Stale {
        match self.store.devices(&Scope::All).await {
            Ok(devices) => {
                let can_go_on = self.board().put_devices(devices, self.clock.now());
                Stale { board: !can_go_on, devices: false }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the devices");
                Stale { board: false, devices: true }
            }
        }
    }

    pub(super) async fn reload(&self) -> bool {
        let health = self.board().health();
        match read_board(&*self.store, &self.forecasts, self.parameters, health, self.clock.now()).await {
            Ok(board) => {
                *self.board() = board;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the board");
                false
            }
        }
    }
}

/// Reads a board from the store, which goes on from the `health` of the one before.
pub(super) async fn read_board(
    store: &dyn Store,
    forecasts: &Forecasts,
    parameters: Parameters,
    health: Health,
    now: Timestamp,
) -> store::Result<Board> {
    let mut board = Board::new(parameters, store.devices(&Scope::All).await?, now);
    board.put_health(health);
    for (org, limits) in &store.limits().await?.orgs {
        board.put_limits(org, limits, now);
    }
    for row in store.groups().await? {
        put_group(&mut board, forecasts, row, now);
    }
    for running in store.running_jobs().await? {
        let id = running.job.id;
        board.put_running(id, waiting(running.job), running.device_id, running.started_at);
        if running.over {
            board.complete(id, now);
        }
    }
    for job in store.waiting_jobs().await? {
        let id = job.id;
        board.put_waiting(id, waiting(job), now);
    }
    Ok(board)
}

fn put_group(board: &mut Board, forecasts: &Forecasts, row: GroupRow, now: Timestamp) {
    board.put_group(row.id, row.key, row.build, PRIOR_S, now);
    predict_install(board, forecasts, row.id, now);
}

/// Tells the board how long an install for a group should take, on the slowest kind of device that fits.
fn predict_install(board: &mut Board, forecasts: &Forecasts, id: group::Id, now: Timestamp) {
    let kinds = board.kinds(id, now);
    let build = board.group(id).and_then(|group| group.build.as_ref());
    let install_s = build.map(|build| forecasts.install_s(build, kinds));
    install_s.inspect(|install_s| board.set_install_s(id, *install_s, now));
}

fn waiting(job: WaitingJob) -> Waiting {
    Waiting {
        group: job.group_id,
        priority: job.priority,
        queued_at: job.queued_at,
        not_before: job.not_before,
        avoid: job.avoid,
        promoted_at: job.promoted_at,
        predicted_ms: job.predicted_ms,
    }
}
