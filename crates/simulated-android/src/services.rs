//! What an adb server can open on the phone.

mod commands;
mod sync;

use std::sync::Arc;

use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::device::Device;
use crate::uia2;

/// The port on the phone where UiAutomator2's server listens.
const AUTOMATION_PORT: &str = "6790";

#[derive(Debug)]
pub(crate) enum Service {
    /// A command with stdout, stderr and exit code kept apart.
    ShellV2(String),
    /// A command whose output comes as plain bytes.
    Plain(String),
    Sync,
    Automation,
    Reboot,
    Say(&'static str),
}

impl Service {
    /// The service by that name, or `None` when the phone refuses it.
    pub(crate) fn named(device: &Device, name: &str) -> Option<Self> {
        let (kind, argument) = name.split_once(':')?;
        Some(match kind {
            "sync" => Self::Sync,
            "exec" | "shell" => Self::Plain(argument.to_owned()),
            "reboot" => Self::Reboot,
            "root" => Self::Say("adbd cannot run as root in production builds\n"),
            "unroot" => Self::Say("adbd not running as root\n"),
            "remount" => Self::Say("remount succeeded\n"),
            // A port where nothing listens refuses the connection.
            "tcp" if argument == AUTOMATION_PORT && device.state().instrumentation.is_some() => {
                Self::Automation
            }
            "tcp" => return None,
            _ if kind == "shell,v2" || kind.starts_with("shell,v2,") => Self::ShellV2(argument.to_owned()),
            _ if kind.starts_with("shell,") => Self::Plain(argument.to_owned()),
            _ => {
                device.state().unknown(&format!("service {name}"));
                return None;
            }
        })
    }

    pub(crate) async fn run(self, device: Arc<Device>, mut stream: DuplexStream) {
        let name = device.config.name.clone();
        let result = match self {
            Self::ShellV2(command) => {
                commands::run(device, stream, &command, commands::Framing::Packets).await
            }
            Self::Plain(command) => commands::run(device, stream, &command, commands::Framing::Plain).await,
            Self::Sync => sync::serve(device, stream).await,
            Self::Automation => {
                uia2::serve(device, stream).await;
                Ok(())
            }
            Self::Reboot => {
                device.reboot_as_asked();
                Ok(())
            }
            Self::Say(text) => stream.write_all(text.as_bytes()).await,
        };
        if let Err(error) = result {
            // The host hung up before the answer was out, which hosts may do.
            tracing::debug!(phone = %name, %error, "service ended early");
        }
    }
}
