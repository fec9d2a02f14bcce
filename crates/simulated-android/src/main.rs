//! Hosts simulated phones until it is told to stop.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use simulated_android::{Config, Phone, control, keep_connected};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Simulated Android phones that the real adb, Appium and AppWright talk to.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A phone, as KEY=VALUE pairs with commas between them: name, port, serial, model, manufacturer, release, sdk,
    /// install-ms, command-ms. Can be given many times.
    #[arg(long = "phone", value_name = "KEY=VALUE,…", value_parser = phone, required = true)]
    phones: Vec<Config>,
    /// Where to serve the control API.
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// The port of the adb server on this host that the phones make themselves known to. It may start later.
    #[arg(long, value_name = "PORT")]
    adb_server: Option<u16>,
}

fn phone(text: &str) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let mut serial = None;
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').with_context(|| format!("'{pair}' is not KEY=VALUE"))?;
        let value = value.trim_matches('"');
        let number = || value.parse::<u64>().with_context(|| format!("{key} needs a number, not '{value}'"));
        match key {
            "name" => config.name = value.to_owned(),
            "port" => config.port = u16::try_from(number()?).context("port is too large")?,
            "serial" => serial = Some(value.to_owned()),
            "model" => config.model = value.to_owned(),
            "manufacturer" => config.manufacturer = value.to_owned(),
            "release" => config.release = value.to_owned(),
            "sdk" => config.sdk = u32::try_from(number()?).context("sdk is too large")?,
            "install-ms" => config.install_ms = number()?,
            "command-ms" => config.command_ms = number()?,
            other => bail!("a phone has no '{other}'"),
        }
    }
    config.serial = serial.unwrap_or_else(|| config.name.to_uppercase());
    Ok(config)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let mut phones: Vec<Arc<Phone>> = Vec::new();
    for config in arguments.phones {
        if phones.iter().any(|other| other.config().name == config.name) {
            bail!("two phones are called {}", config.name);
        }
        phones.push(Arc::new(Phone::start(config).await?));
    }
    if let Some(address) = arguments.control {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot serve the control API on {address}"))?;
        println!("control http://{}", listener.local_addr()?);
        let router = control::router(phones.iter().cloned());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    for phone in &phones {
        println!("ready {} {}", phone.config().name, phone.address());
        if let Some(port) = arguments.adb_server {
            let phone = phone.clone();
            tokio::spawn(async move { keep_connected(&phone, port).await });
        }
    }
    std::io::stdout().flush()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(())
}
