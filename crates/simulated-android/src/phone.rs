//! The crate's public face: one phone that listens on a TCP port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adb::listener;
use crate::device::{Device, Link};
use crate::fault::Fault;
use crate::truth::Truth;

/// What a phone is.
#[derive(Debug, Clone)]
pub struct Config {
    /// How people and the control API call it.
    pub name: String,
    /// `ro.serialno`. The adb server names the phone by its address, as it does for any phone on a network.
    pub serial: String,
    pub model: String,
    pub manufacturer: String,
    /// Android's version as users know it, such as `14`.
    pub release: String,
    /// Android's API level, such as 34.
    pub sdk: u32,
    /// TCP port on 127.0.0.1; 0 takes a free one. Ports 5555 to 5585 are scanned by every adb server on the host.
    pub port: u16,
    /// Milliseconds that every install of an app takes at least.
    pub install_ms: u64,
    /// Milliseconds that every UiAutomator2 command takes at least.
    pub command_ms: u64,
    /// Where the phone's clock stands when it starts, in seconds since 1970.
    pub clock_starts_at: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "phone".to_owned(),
            serial: "SIMULATED1".to_owned(),
            model: "Pixel 7".to_owned(),
            manufacturer: "Google".to_owned(),
            release: "14".to_owned(),
            sdk: 34,
            port: 0,
            install_ms: 0,
            command_ms: 0,
            clock_starts_at: 1_767_225_600,
        }
    }
}

/// A running phone. It stops when it is dropped.
#[derive(Debug)]
pub struct Phone {
    device: Arc<Device>,
    stop: CancellationToken,
}

impl Phone {
    /// Turns a phone on, on 127.0.0.1. It accepts adb connections when this returns.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        let listener = listener::reserve(wanted)
            .and_then(|socket| socket.listen(64))
            .with_context(|| format!("cannot listen on {wanted} for phone {}", config.name))?;
        let address = listener.local_addr().context("the port of a phone")?;
        let device = Arc::new(Device::new(config, address));
        let stop = CancellationToken::new();
        tokio::spawn(listener::serve(device.clone(), listener, stop.clone()));
        Ok(Self { device, stop })
    }

    /// Where `adb connect` finds the phone, which is also the serial number the adb server gives it.
    pub fn address(&self) -> SocketAddr {
        self.device.address
    }

    pub fn config(&self) -> &Config {
        &self.device.config
    }

    /// What happened to the phone so far.
    pub fn truth(&self) -> Truth {
        self.device.state().truth_now()
    }

    /// Forgets what happened so far. What is installed stays and is still told by [`Phone::truth`].
    pub fn reset_truth(&self) {
        self.device.state().truth = Truth::default();
    }

    /// Makes something go wrong, or right again. Takes effect before this returns.
    pub fn fault(&self, fault: Fault) {
        self.device.fault(fault);
    }

    /// Whether an adb server can reach the phone: not unplugged.
    pub fn is_plugged(&self) -> bool {
        self.device.link.borrow().link != Link::Unplugged
    }

    pub(crate) fn link(&self) -> watch::Receiver<crate::device::LinkState> {
        self.device.link.subscribe()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
