//! `qgjob help`: commands, and topics that belong to no single command.

use qgjob_core::model::exit::ExitCode;

use super::failure::{Failure, Result};
use super::{Context, tree};
use crate::config::VARIABLES;
use crate::output::table;

/// A topic: its name, and what makes its text.
pub type Topic = (&'static str, fn() -> String);

/// The topics.
pub const TOPICS: [Topic; 5] = [
    ("exit-codes", exit_codes),
    ("environment", environment),
    ("formatting", || FORMATTING.to_owned()),
    ("config", || CONFIG.to_owned()),
    ("security", || SECURITY.to_owned()),
];

const FORMATTING: &str = "\
Results go to stdout, everything else to stderr.

  -o text    for people; may change. In a pipe each change is one line:
             <job_id> → <status>  (detail)
             with a sign of life at least every 60 s
  -o json    one JSON document; stable, fields are only added; of several things
             it is {\"items\":[…],\"next_cursor\":null}
  -o jsonl   one JSON document per line: items of a list, events while watching
             (the last line is then the whole job or run)
  -o name    ids alone
  -o none    nothing; the exit code tells

Objects carry \"schema\":\"qgjob.<type>/v1\". Times are RFC 3339 in UTC, spans integers in *_ms, sizes integers in *_bytes.
With -o json or jsonl an error is one JSON line on stderr: {\"error\":{\"code\":…,\"detail\":…,\"exit_code\":…,\"hint\":…}}.

Colours: --color, NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM=dumb. A display that redraws itself appears only when stdout
and stderr are both a terminal; --no-progress turns it off.";

const CONFIG: &str = "\
A flag beats the environment, which beats the project's qgjob.toml, which beats the user's config.toml.

User files are in $QGJOB_CONFIG_DIR, else $XDG_CONFIG_HOME/qgjob, else ~/.config/qgjob.

config.toml:
  default_profile = \"work\"
  [profiles.work]
  server = \"https://qgjob.example.com\"
  org_id = \"qualgent\"

credentials.toml, readable by you alone (mode 0600) or refused:
  local_server = \"http://127.0.0.1:8080\"     # the server last started on this machine
  [servers.\"https://qgjob.example.com\"]
  token = \"qgj_pat_…\"

qgjob.toml, in the project or above it up to the root of the checkout: `server`, `org_id`, and under [submit] the flags of
`qgjob submit`: app_version_id, tests, app, platform, target, device, priority, concurrency_group, shards, timeout,
queue_timeout, retries, test_retries, reset, env, labels. It can hold no token. Its `server` counts only when you have a
credential for it.

The server is the first of: --server or QGJOB_SERVER; qgjob.toml; the profile; the server last started on this machine;
http://127.0.0.1:8080. Unknown keys are errors. `qgjob doctor` shows what is in force.";

const SECURITY: &str = "\
A token is shown only to the server it was stored for, over https, or over http to this machine. There is no flag for a
token, since other users can see flags; use QGJOB_TOKEN, QGJOB_TOKEN_FILE, --token-file or credentials.toml. Redirects are
never followed. Tokens are in no log, whatever the level.

A server's first start on this machine keeps its admin token in your credentials.toml, so that qgjob beside it works
without a login. Make tokens for others with `qgjob token create` (one org's jobs) and `qgjob agent token create`
(registers one agent, once, within an hour).

In CI no token needs to be stored: jobs of GitHub Actions, GitLab and others log in with an id-token, as policies of the org
allow it (docs/KEYLESS.md). The id-token and the token that it is given for are in no log either.

The output of tests is shown without control sequences other than colours.";

/// What the numbers alone do not say.
pub(super) const EXIT_CODES: &str = "\
`submit --watch`, `submit --wait`, `retry --watch`, `status --watch` and `wait` end with the verdict of what they watched, which is the \
server's. `status` without --watch ends with 0 when it could show what was asked for; --exit-status makes it the verdict of \
what is over.

A repeat can help after 10, 11 and 16 alone. 1 is what a test said, and 2, 3 and 6 stay until something is changed. After 14 and 15 the \
jobs may still run: `qgjob wait <id>` goes on waiting.

130 and 143 tell of a signal, not of a verdict. Where CI is set, what the command made is cancelled by then, or the message says \
that this could not be confirmed; elsewhere it goes on.";

/// What is known as exit codes, as a table.
fn exit_codes() -> String {
    let rows: Vec<_> = ExitCode::ALL
        .iter()
        .map(|code| {
            let (name, meaning, pipeline) = code.explain();
            vec![u8::from(*code).to_string(), name.to_owned(), pipeline.to_owned(), meaning.to_owned()]
        })
        .collect();
    let table = table(&["CODE", "NAME", "A PIPELINE SHOULD", "MEANING"], &rows);
    format!("{table}\n\n{}\n\n{EXIT_CODES}", ExitCode::worst_first())
}

fn environment() -> String {
    let rows: Vec<_> =
        VARIABLES.iter().map(|(name, what)| vec![(*name).to_owned(), (*what).to_owned()]).collect();
    table(&["VARIABLE", "MEANING"], &rows)
}

/// Prints a topic, or the help of a command.
pub(super) fn help(context: &Context, words: &[String]) -> Result {
    if let [word] = words
        && let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == word)
    {
        context.output.line(context.output.reflow(&text()))?;
        return Ok(ExitCode::Ok);
    }
    let mut tree = tree();
    tree.build();
    let mut command = &mut tree;
    for word in words {
        let names: Vec<String> =
            command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        command = match command.find_subcommand_mut(word) {
            Some(found) => found,
            None => return Err(unknown(word, names)),
        };
    }
    let help = command.render_long_help();
    let text = if context.output.color { help.ansi().to_string() } else { help.to_string() };
    context.output.line(text.trim_end())?;
    Ok(ExitCode::Ok)
}

fn unknown(word: &str, mut names: Vec<String>) -> Failure {
    names.extend(TOPICS.iter().map(|(name, _)| (*name).to_owned()));
    let failure = Failure::usage(format!("there is no command or topic {word:?}"));
    let nearest =
        names.iter().map(|name| (strsim::jaro_winkler(name, word), name)).filter(|(score, _)| *score > 0.75);
    match nearest.max_by(|left, right| left.0.total_cmp(&right.0)) {
        Some((_, name)) => failure.hint(format!("did you mean {name}?")),
        None => failure.hint("`qgjob help` lists the commands"),
    }
}
