//! What the program says about its own work: to stderr, for people or as JSON. Tokens never reach it: they are
//! wrapped in [`crate::client::Secret`] and travel in headers that are marked sensitive.

use tracing_subscriber::EnvFilter;

use crate::config::Environment;

/// How the lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged: `QGJOB_LOG` if it is set, else what the number of `-v` stands for, else `default`.
fn filter(env: &Environment, verbosity: u8, default: &str) -> String {
    match (env.get("QGJOB_LOG"), verbosity) {
        (Some(chosen), _) => chosen.to_owned(),
        (None, 0) => default.to_owned(),
        (None, 1) => "info".to_owned(),
        (None, 2) => "info,qgjob=debug,qgjob_server=debug".to_owned(),
        (None, _) => "debug,qgjob=trace,qgjob_server=trace".to_owned(),
    }
}

/// Starts logging. `default` is the level without any wish: `warn` for commands, `info` for the server and the
/// agent.
///
/// # Errors
/// When `QGJOB_LOG` is no filter.
pub fn start(env: &Environment, verbosity: u8, default: &str, color: bool) -> Result<(), String> {
    let text = filter(env, verbosity, default);
    let filter = EnvFilter::try_new(&text).map_err(|error| format!("QGJOB_LOG={text:?}: {error}"))?;
    let form = match env.get("QGJOB_LOG_FORMAT") {
        None | Some("text") => Form::Text,
        Some("json") => Form::Json,
        Some(other) => return Err(format!("QGJOB_LOG_FORMAT={other:?}: use text or json")),
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    // A second start in one process (tests) keeps the first.
    _ = match form {
        Form::Text => builder.try_init(),
        Form::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_beats_the_flags() {
        let env = Environment::from([("QGJOB_LOG", "qgjob=trace")]);
        assert_eq!(filter(&env, 1, "warn"), "qgjob=trace");
        assert_eq!(filter(&Environment::default(), 0, "warn"), "warn");
        assert!(filter(&Environment::default(), 2, "warn").contains("qgjob=debug"));
    }

    #[test]
    fn what_is_no_filter_is_told() {
        assert!(start(&Environment::from([("QGJOB_LOG", "qgjob=loud")]), 0, "warn", false).is_err());
        assert!(start(&Environment::from([("QGJOB_LOG_FORMAT", "xml")]), 0, "warn", false).is_err());
    }
}
