//! Carrying out what the board decided about devices and builds.

use qgjob_core::model::device::Quarantine;
use qgjob_core::model::{device, job};
use qgjob_core::queue::board::Ruling;

use super::Dispatch;
use crate::store;

/// Jobs that are given up in one call, so that others do not wait for long.
const GIVEN_UP_AT_ONCE: usize = 500;

impl Dispatch {
    /// Tells the store what the board decided about devices and builds. What it could not take stays in `rulings`.
    pub(super) async fn carry_out(&self, rulings: &mut Vec<Ruling>) {
        rulings.extend(self.board().take_rulings());
        while let Some(ruling) = rulings.first() {
            let done = match ruling {
                Ruling::Quarantine { device, quarantine } => self.quarantine(*device, quarantine).await,
                Ruling::GiveUp { jobs, detail } => self.give_up(jobs, detail).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "cannot carry out what was decided about a device or a build; it is tried again");
                return;
            }
            rulings.remove(0);
        }
    }

    async fn quarantine(&self, id: device::Id, quarantine: &Quarantine) -> store::Result<()> {
        match self.store.set_device_quarantine(self.clock.now(), id, quarantine.clone()).await? {
            Ok(device) if quarantine.is_in_force() => {
                tracing::warn!(
                    device = device.name,
                    note = quarantine.note(&device.name),
                    "a device is quarantined"
                );
            }
            Ok(device) => tracing::info!(device = device.name, "a device has left its quarantine"),
            Err(refusal) => tracing::info!(device = %id, %refusal, "a quarantine was refused"),
        }
        Ok(())
    }

    async fn give_up(&self, jobs: &[job::Id], detail: &str) -> store::Result<()> {
        for some in jobs.chunks(GIVEN_UP_AT_ONCE) {
            self.store.give_up(self.clock.now(), some.to_vec(), detail).await?;
        }
        tracing::warn!(jobs = jobs.len(), detail, "jobs were given up");
        Ok(())
    }
}
