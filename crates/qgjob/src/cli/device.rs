//! `qgjob device`.

use qgjob_core::model::device;
use qgjob_core::model::exit::ExitCode;

use super::failure::{Failure, Result};
use super::{Context, value};
use crate::client::Client;
use crate::output::{self, GOOD, plain};

/// Devices
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob device list")]
pub enum Device {
    /// List devices
    #[command(after_help = "Example:\n  qgjob device list -o json")]
    List,
    /// Show a device and what is installed on it
    #[command(after_help = "Example:\n  qgjob device view pixel-7-03")]
    View {
        /// Name, serial, id, or the last 6 characters of the id or more
        device: String,
    },
    /// Take a device out: it finishes what it runs and gets no new job
    #[command(after_help = "Example:\n  qgjob device drain pixel-7-03")]
    Drain {
        /// Name, serial, id, or the last 6 characters of the id or more
        device: String,
    },
    /// Bring a device back that was drained or quarantined
    #[command(after_help = "Example:\n  qgjob device enable pixel-7-03")]
    Enable {
        /// Name, serial, id, or the last 6 characters of the id or more
        device: String,
    },
}

impl Device {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        match self {
            Self::List => {
                let headers =
                    &["NAME", "STATE", "KIND", "MODEL", "OS", "SERIAL", "INSTALLED", "TAGS", "NOTE"];
                let mut list = output::List::new("devices", headers);
                let mut devices = client.devices().await?;
                devices.sort_by(|a, b| a.name.cmp(&b.name));
                for device in devices {
                    let row = row(&device);
                    list.push(device.id, &output::typed("device", &device), row);
                }
                context.output.list(&list)?;
            }
            Self::View { device } => {
                let device = find(&client, &device).await?;
                let typed = output::typed("device", &device);
                context.output.object(&typed, &device.id.to_string(), || facts(&device))?;
            }
            Self::Drain { device } => set(context, &client, &device, "drain", "Drained").await?,
            Self::Enable { device } => set(context, &client, &device, "enable", "Enabled").await?,
        }
        Ok(ExitCode::Ok)
    }
}

async fn set(context: &Context, client: &Client, name: &str, verb: &str, done: &str) -> Result<()> {
    let id = find(client, name).await?.id.to_string();
    let device = client.set_device(&id, verb).await?;
    let text =
        || format!("{} {done} {} ({})", context.output.paint(GOOD, "✓"), plain(&device.name), device.state);
    context.output.object(&output::typed("device", &device), &id, text)?;
    Ok(())
}

/// The device with this id or name.
async fn find(client: &Client, wanted: &str) -> Result<device::Device> {
    if wanted.parse::<device::Id>().is_ok() {
        return Ok(client.device(wanted).await?);
    }
    let mut devices = client.devices().await?;
    let names: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    devices.retain(|device| {
        device.name == wanted || device.serial == wanted || value::ends(&device.id.to_string(), wanted)
    });
    match devices.len() {
        1 => Ok(devices.remove(0)),
        0 => Err(not_found("device", wanted, &names)),
        _ => {
            let ids: Vec<String> = devices.iter().map(|device| device.id.to_string()).collect();
            Err(Failure::usage(format!("several devices are called {wanted}"))
                .hint(format!("use an id: {}", ids.join(", "))))
        }
    }
}

/// Nothing has this name; the most similar one is suggested.
pub fn not_found(what: &str, wanted: &str, names: &[String]) -> Failure {
    let failure = Failure::new(ExitCode::NotFound, format!("there is no {what} {wanted:?}"));
    let nearest =
        names.iter().map(|name| (strsim::jaro_winkler(name, wanted), name)).filter(|(score, _)| *score > 0.7);
    match nearest.max_by(|left, right| left.0.total_cmp(&right.0)) {
        Some((_, name)) => failure.hint(format!("did you mean {name}?")),
        None => failure.hint(format!("`qgjob {what} list` shows all")),
    }
}

fn installed(device: &device::Device) -> String {
    let all: Vec<_> =
        device.ledger.iter().map(|entry| format!("{} {}", entry.app_id, entry.sha256.short())).collect();
    all.join(", ")
}

fn row(device: &device::Device) -> Vec<String> {
    vec![
        device.name.clone(),
        device.state.to_string(),
        device.kind.to_string(),
        device.model.clone(),
        format!("{} {}", device.platform, device.os_version),
        device.serial.clone(),
        installed(device),
        device.tags.iter().cloned().collect::<Vec<_>>().join(","),
        device.note.clone().unwrap_or_default(),
    ]
}

fn facts(device: &device::Device) -> String {
    let facts = [
        ("id", device.id.to_string()),
        ("state", device.state.to_string()),
        ("note", device.note.clone().unwrap_or_default()),
        ("kind", device.kind.to_string()),
        ("model", device.model.clone()),
        ("os", format!("{} {}", device.platform, device.os_version)),
        ("serial", device.serial.clone()),
        ("agent", device.agent_id.to_string()),
        ("serves", device.serves.as_ref().map_or("all orgs".to_owned(), ToString::to_string)),
        ("tags", device.tags.iter().cloned().collect::<Vec<_>>().join(",")),
        ("attempt", device.attempt_id.map(|id| id.to_string()).unwrap_or_default()),
        ("seen", device.seen_at.to_string()),
    ];
    let mut text = plain(&device.name);
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("\n  {name:<10} {}", plain(value)));
    }
    for entry in &device.ledger {
        text.push_str(&format!(
            "\n  installed  {} sha256 {} (verified {})",
            plain(&entry.app_id),
            entry.sha256,
            entry.verified_at
        ));
    }
    text
}
