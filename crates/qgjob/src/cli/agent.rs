//! `qgjob agent`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qgjob_core::api::tokens::NewToken;
use qgjob_core::clock::SystemClock;
use qgjob_core::model::agent;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::token::Kind;
use tokio::signal::unix::{SignalKind, signal};

use super::device::not_found;
use super::failure::{Failure, Result};
use super::token::{create, millis};
use super::{Context, value};
use crate::agent::{Choice, Config, Shutdown};
use crate::client::Client;
use crate::config::{Environment, Settings};
use crate::output::{self, GOOD, plain};

/// Agents, which own the devices
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob agent run")]
pub enum Agent {
    /// Offer the devices of this machine and run jobs on them, until stopped
    ///
    /// The first Ctrl-C lets running jobs finish, the second gives them back at once, as SIGTERM does. Beside a server
    /// on the same machine no token is needed; elsewhere pass one of `qgjob agent token create` at the first start.
    #[command(
        after_help = "Examples:\n  qgjob agent run\n  qgjob agent run --server=https://qgjob.example.com --registration-token-file=reg.txt --tag=ci\n  \
        qgjob agent run --connect=127.0.0.1:5601 --device-name=127.0.0.1:5601=pixel-7-01"
    )]
    Run(Box<Run>),
    /// List agents
    #[command(after_help = "Example:\n  qgjob agent list -o json")]
    List,
    /// Show an agent
    #[command(after_help = "Example:\n  qgjob agent view rack-1")]
    View {
        /// Name, id, or the last 6 characters of the id or more
        agent: String,
    },
    /// Let an agent finish what it runs and take nothing new
    #[command(after_help = "Example:\n  qgjob agent drain rack-1")]
    Drain {
        /// Name, id, or the last 6 characters of the id or more
        agent: String,
    },
    /// Let an agent take jobs again
    #[command(after_help = "Example:\n  qgjob agent enable rack-1")]
    Enable {
        /// Name, id, or the last 6 characters of the id or more
        agent: String,
    },
    /// Forget an agent and its devices; what it runs is lost and runs elsewhere
    #[command(after_help = "Example:\n  qgjob agent remove rack-1")]
    Remove {
        /// Name, id, or the last 6 characters of the id or more
        agent: String,
    },
    /// Tokens with which agents register
    #[command(subcommand, after_help = "Example:\n  qgjob agent token create --name=rack-1 > reg.txt")]
    Token(RegistrationToken),
}

/// Tokens with which agents register.
#[derive(Debug, clap::Subcommand)]
pub enum RegistrationToken {
    /// Make a token that registers one agent, once
    #[command(after_help = "Example:\n  qgjob agent token create --name=rack-1 > reg.txt")]
    Create {
        /// Name, for lists
        #[arg(long, default_value = "agent")]
        name: String,
        /// How long it works [default: 1h]
        #[arg(long, value_name = "SPAN", value_parser = value::span)]
        ttl: Option<Duration>,
        /// Let the agent run jobs of the org alone that --org-id names
        #[arg(long)]
        only_org: bool,
    },
}

/// Offer the devices of this machine.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Name of the agent; one agent of a name at a time [default: the machine's name]
    #[arg(long, env = "QGJOB_AGENT_NAME", hide_env = true)]
    name: Option<String>,
    /// File with a registration token, for the first start
    #[arg(long, value_name = "FILE", env = "QGJOB_REGISTRATION_TOKEN_FILE", hide_env = true)]
    registration_token_file: Option<PathBuf>,
    /// Folder for what must survive a restart [default: $XDG_STATE_HOME/qgjob/agent]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Folder for what can be made again: apps, projects, npm packages [default: $XDG_CACHE_HOME/qgjob/agent]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Beyond this many bytes, cached projects and packages that were used longest ago are removed
    #[arg(long, value_name = "BYTES", default_value_t = 20_000_000_000)]
    cache_bytes: u64,
    /// Port of the adb server
    #[arg(
        long,
        value_name = "PORT",
        env = "ANDROID_ADB_SERVER_PORT",
        hide_env = true,
        default_value_t = 5037
    )]
    adb_port: u16,
    /// Address for `adb connect`, tried again whenever the device is missing; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    connect: Vec<String>,
    /// Offer only the device of this serial; may be repeated [default: all that adb lists]
    #[arg(long, value_name = "SERIAL")]
    device: Vec<String>,
    /// What to call a device; may be repeated
    #[arg(long, value_name = "SERIAL=NAME", value_parser = value::pair)]
    device_name: Vec<(String, String)>,
    /// Label that all devices of this agent carry; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// How often to call the server
    #[arg(long, value_name = "SPAN", value_parser = value::span, default_value = "5s")]
    heartbeat: Duration,
}

impl Agent {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let client = context.client_of(&settings)?;
        match self {
            Self::Run(run) => return run.run(context, &settings, &client).await,
            Self::List => {
                let headers = &["NAME", "STATE", "VERSION", "SERVES", "SEEN", "AGENT"];
                let mut list = output::List::new("agents", headers);
                for agent in client.agents().await? {
                    let row = vec![
                        agent.name.clone(),
                        agent.state.to_string(),
                        agent.version.clone(),
                        serves(&agent),
                        agent.seen_at.to_string(),
                        agent.id.to_string(),
                    ];
                    list.push(agent.id, &output::typed("agent", &agent), row);
                }
                context.output.list(&list)?;
            }
            Self::View { agent } => {
                let agent = find(&client, &agent).await?;
                print(context, &agent, || {
                    format!(
                        "{}\n  id       {}\n  state    {}\n  version  {}\n  serves   {}\n  seen     {}\n  created  {}",
                        plain(&agent.name),
                        agent.id,
                        agent.state,
                        plain(&agent.version),
                        serves(&agent),
                        agent.seen_at,
                        agent.created_at
                    )
                })?;
            }
            Self::Drain { agent } => set(context, &client, &agent, "drain", "Draining").await?,
            Self::Enable { agent } => set(context, &client, &agent, "enable", "Enabled").await?,
            Self::Remove { agent } => {
                let agent = find(&client, &agent).await?;
                client.remove_agent(&agent.id.to_string()).await?;
                print(context, &agent, || {
                    format!("{} Removed {}", context.output.paint(GOOD, "✓"), plain(&agent.name))
                })?;
            }
            Self::Token(RegistrationToken::Create { name, ttl, only_org }) => {
                let org_id = only_org.then(|| super::submit::org(&settings)).transpose()?;
                return create(
                    context,
                    &client,
                    NewToken { kind: Kind::Registration, name, org_id, ttl_ms: ttl.map(millis) },
                )
                .await;
            }
        }
        Ok(ExitCode::Ok)
    }
}

fn serves(agent: &agent::Agent) -> String {
    agent.serves.as_ref().map_or("all orgs".to_owned(), ToString::to_string)
}

fn print(context: &Context, agent: &agent::Agent, text: impl FnOnce() -> String) -> Result<()> {
    Ok(context.output.object(&output::typed("agent", agent), &agent.id.to_string(), text)?)
}

async fn set(context: &Context, client: &Client, name: &str, verb: &str, done: &str) -> Result<()> {
    let id = find(client, name).await?.id.to_string();
    let agent = client.set_agent(&id, verb).await?;
    print(context, &agent, || format!("{} {done}: {}", context.output.paint(GOOD, "✓"), plain(&agent.name)))
}

async fn find(client: &Client, wanted: &str) -> Result<agent::Agent> {
    if wanted.parse::<agent::Id>().is_ok() {
        return Ok(client.agent(wanted).await?);
    }
    let agents = client.agents().await?;
    let names: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    let named = |agent: &agent::Agent| agent.name == wanted || value::ends(&agent.id.to_string(), wanted);
    agents.into_iter().find(named).ok_or_else(|| not_found("agent", wanted, &names))
}

impl Run {
    async fn run(self, context: &Context, settings: &Settings, client: &Client) -> Result {
        let env = &context.env;
        let state_dir = folder(self.state_dir, env, "XDG_STATE_HOME", ".local/state", "--state-dir")?;
        let cache_dir = folder(self.cache_dir, env, "XDG_CACHE_HOME", ".cache", "--cache-dir")?;
        let name = self.name.filter(|name| !name.is_empty()).unwrap_or_else(|| machine_name(env));
        let server = settings.server.as_str().trim_end_matches('/').to_owned();
        let registration_token = match &self.registration_token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
                Some(text.trim().to_owned())
            }
            None if is_registered(&state_dir, &server) || !client.has_token() => None,
            // Beside a local server the admin's credential is at hand: no login step.
            None => {
                let new = NewToken {
                    kind: Kind::Registration,
                    name: name.chars().take(64).collect(),
                    org_id: None,
                    ttl_ms: None,
                };
                Some(client.create_token(&new).await?.secret)
            }
        };
        let config = Config {
            name,
            server,
            registration_token,
            state_dir,
            cache_dir,
            adb_port: self.adb_port,
            connect: self.connect,
            choice: Choice {
                serials: BTreeSet::from_iter(self.device),
                names: BTreeMap::from_iter(self.device_name),
                tags: BTreeSet::from_iter(self.tag),
            },
            heartbeat: self.heartbeat,
            cache_bytes: self.cache_bytes,
        };
        let shutdown = Shutdown::default();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let work = crate::agent::run(config, Arc::new(SystemClock), shutdown.clone());
        tokio::pin!(work);
        let mut asked = 0_u32;
        loop {
            tokio::select! {
                ended = &mut work => {
                    return match ended {
                        Ok(()) => Ok(ExitCode::Ok),
                        Err(error) => Err(failure(&error)),
                    };
                }
                _ = interrupt.recv() => {
                    asked += 1;
                    shutdown.drain.cancel();
                    match asked {
                        1 => context.output.note("Finishing what runs; Ctrl-C again gives it back at once."),
                        2 => shutdown.stop.cancel(),
                        _ => return Ok(ExitCode::Interrupted),
                    }
                }
                _ = terminate.recv() => {
                    shutdown.drain.cancel();
                    shutdown.stop.cancel();
                }
            }
        }
    }
}

fn failure(error: &anyhow::Error) -> Failure {
    let failure = Failure::new(ExitCode::Infra, format!("the agent cannot run: {error}"));
    let failure = error.chain().skip(1).fold(failure, |failure, cause| failure.cause(cause.to_string()));
    failure.hint("`qgjob doctor` looks for what is missing on this machine")
}

/// Whether the state folder holds a session with this server.
fn is_registered(state_dir: &Path, server: &str) -> bool {
    let text = std::fs::read(state_dir.join("session.json")).unwrap_or_default();
    let session: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    session["server"] == server
}

fn folder(
    flag: Option<PathBuf>,
    env: &Environment,
    xdg: &str,
    below_home: &str,
    name: &str,
) -> Result<PathBuf> {
    if let Some(chosen) = flag {
        return Ok(chosen);
    }
    let base = env.get(xdg).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| env.get("HOME").map(|home| Path::new(home).join(below_home)));
    base.map(|base| base.join("qgjob/agent"))
        .ok_or_else(|| Failure::usage(format!("there is no home folder: give {name}")))
}

fn machine_name(env: &Environment) -> String {
    let of_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let of_command = || String::from_utf8(std::process::Command::new("hostname").output().ok()?.stdout).ok();
    let name =
        env.get("HOSTNAME").map(str::to_owned).or_else(of_kernel).or_else(of_command).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    if name.is_empty() { "agent".to_owned() } else { name }
}
