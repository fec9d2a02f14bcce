//! `qgjob org oidc-policy`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use qgjob_core::api::logins::{NewPolicy, PolicyTested, PolicyView};
use qgjob_core::model::ci::{CiRun, May};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{ClaimName, IssuerUrl, OrgId, Pattern};
use qgjob_core::model::policy::{self, Conditions, Id};
use qgjob_core::model::priority::Priority;

use crate::cli::failure::{Failure, Result};
use crate::cli::{Context, value};
use crate::client::{Client, Secret};
use crate::config;
use crate::output::{self, BAD, GOOD, plain};

/// Policies: which pipelines log in to the org without a stored token
///
/// A pipeline shows an id-token in which its CI service vouches for it; the oldest policy that it meets decides what it may
/// do. What meets none is refused. See docs/KEYLESS.md.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob org oidc-policy list --org-id=qualgent")]
pub enum OidcPolicy {
    /// List the org's policies, in the order in which they count
    #[command(after_help = "Example:\n  qgjob org oidc-policy list --org-id=qualgent")]
    List,
    /// Add a policy, behind those that the org has
    ///
    /// Of GitHub it must name repository_id or repository_owner_id, of GitLab project_id or namespace_id: numbers, which
    /// unlike names are never given to somebody else. Needs an admin's token.
    #[command(
        after_help = "Examples:\n  qgjob org oidc-policy add --org-id=qualgent --issuer=github --match=repository_id=74 --match=ref=refs/heads/main\n  qgjob org oidc-policy add --org-id=qualgent --issuer=gitlab --match=project_id=22 --may=submit,read,cancel --max-priority=high"
    )]
    Add(Box<Add>),
    /// Remove a policy; the tokens that it let in end at once. Needs an admin's token
    #[command(after_help = "Example:\n  qgjob org oidc-policy remove pol_01kb4x9tq3m8e7w2n5r6v0zcha")]
    Remove {
        /// Id of the policy, or its last 6 characters or more
        id: String,
    },
    /// Say for each policy whether it lets an id-token in, and if not, the first thing that is missing
    ///
    /// Makes no token, and leaves the id-token as good as it was. Exit code 0 if a policy lets it in, else 4.
    #[command(
        after_help = "Example:\n  qgjob org oidc-policy test --org-id=qualgent --id-token-file=id-token.txt"
    )]
    Test {
        /// File that holds the id-token; - for stdin [default: the text of QGJOB_ID_TOKEN]
        #[arg(long, value_name = "FILE")]
        id_token_file: Option<PathBuf>,
    },
}

/// A new policy.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Who issues the id-tokens: github, gitlab (GitLab.com), or an address that the server trusts (--oidc-issuer)
    #[arg(long, value_parser = issuer)]
    issuer: IssuerUrl,
    /// What a claim must be: * stands for any characters but /, ** for any; repeatable, the same claim again for another
    /// choice
    #[arg(long = "match", value_name = "CLAIM=PATTERN", required = true, value_parser = condition)]
    conditions: Vec<(ClaimName, Pattern)>,
    /// For whom the id-tokens must be issued [default: the server's address]
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// What pipelines may do: submit, read, cancel
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "submit,read,cancel")]
    may: Vec<May>,
    /// Most urgent priority that they may ask for: 1 to 10, or low, normal, high, urgent
    #[arg(long, value_name = "PRIORITY", default_value = "normal")]
    max_priority: Priority,
}

fn issuer(text: &str) -> std::result::Result<IssuerUrl, String> {
    let url = match text {
        "github" => policy::GITHUB,
        "gitlab" => policy::GITLAB,
        other => other,
    };
    url.parse().map_err(|bad| format!("{bad}, or github or gitlab"))
}

fn condition(text: &str) -> std::result::Result<(ClaimName, Pattern), String> {
    let (claim, pattern) = value::pair(text)?;
    Ok((claim.parse().map_err(|bad| format!("{bad}"))?, pattern.parse().map_err(|bad| format!("{bad}"))?))
}

impl OidcPolicy {
    pub async fn run(self, context: &Context, client: &Client, org: &OrgId) -> Result {
        match self {
            Self::List => {
                let mut list =
                    output::List::new("policies", &["POLICY", "ISSUER", "MATCH", "MAY", "MAX PRIORITY"]);
                for view in client.policies(org).await? {
                    let policy = &view.policy;
                    let row = vec![
                        policy.id.to_string(),
                        policy.issuer.to_string(),
                        matches(&policy.conditions),
                        words(&policy.may),
                        policy.max_priority.to_string(),
                    ];
                    list.push(policy.id, &view, row);
                }
                context.output.list(&list)?;
            }
            Self::Add(add) => add.run(context, client, org).await?,
            Self::Remove { id } => {
                let id = find(client, org, &id).await?;
                client.remove_policy(org, &id).await?;
                let document = serde_json::json!({ "schema": "qgjob.oidc_policy_removed/v1", "id": id });
                let text = || {
                    format!(
                        "{} Removed {id}; the tokens that it let in are over",
                        context.output.paint(GOOD, "✓")
                    )
                };
                context.output.object(&document, &id, text)?;
            }
            Self::Test { id_token_file } => {
                let tested = client.test_policies(org, &id_token(context, id_token_file)?).await?;
                let name = tested.policy_id.map(|id| id.to_string()).unwrap_or_default();
                context.output.object(&tested, &name, || verdict(context, &tested))?;
                return Ok(if tested.policy_id.is_some() { ExitCode::Ok } else { ExitCode::Auth });
            }
        }
        Ok(ExitCode::Ok)
    }
}

impl Add {
    async fn run(self, context: &Context, client: &Client, org: &OrgId) -> Result<()> {
        let Self { issuer, conditions: given, audience, may, max_priority } = self;
        let mut conditions = Conditions::new();
        for (claim, pattern) in given {
            conditions.entry(claim).or_default().push(pattern);
        }
        let risky = ["pull_request_target", "workflow_run"];
        let events =
            conditions.iter().filter(|(claim, _)| claim.as_str() == "event_name").flat_map(|(_, all)| all);
        if let Some(event) = events.map(Pattern::as_str).find(|event| risky.contains(event)) {
            context.output.warn(format!(
                "{event} runs with the rights of the repository, and may do so for the code of strangers: make sure that such a \
                 workflow never builds or runs theirs"
            ));
        }
        let new = NewPolicy { issuer, audience, conditions, may: BTreeSet::from_iter(may), max_priority };
        let view: PolicyView = client.add_policy(org, &new).await?;
        let id = view.policy.id.to_string();
        context.output.object(&view, &id, || {
            let policy = &view.policy;
            let mark = context.output.paint(GOOD, "✓");
            let (from, may) = (matches(&policy.conditions), words(&policy.may));
            let (issuer, most) = (&policy.issuer, policy.max_priority);
            format!("{mark} Added {id} of {org}\n  issuer       {issuer}\n  match        {from}\n  may          {may}, up to priority {most}")
        })?;
        Ok(())
    }
}

/// The id-token of a file, of stdin, or of the environment.
fn id_token(context: &Context, file: Option<PathBuf>) -> Result<Secret> {
    let failed = |path: PathBuf| move |cause| Failure::from(config::Error::File { path, cause });
    let (text, from) = match (file, context.env.get("QGJOB_ID_TOKEN")) {
        (Some(path), _) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(failed(path))?;
            (text, "stdin".to_owned())
        }
        (Some(path), _) => {
            let from = path.display().to_string();
            (std::fs::read_to_string(&path).map_err(failed(path))?, from)
        }
        (None, Some(text)) => (text.to_owned(), "QGJOB_ID_TOKEN".to_owned()),
        (None, None) => {
            return Err(Failure::usage("no id-token is given")
                .hint("add --id-token-file=<file>, or set QGJOB_ID_TOKEN"));
        }
    };
    Ok(config::id_token(&text, &from)?)
}

/// The id of the policy that is named by it or by its end.
async fn find(client: &Client, org: &OrgId, wanted: &str) -> Result<String> {
    if wanted.parse::<Id>().is_ok() {
        return Ok(wanted.to_owned());
    }
    let mut ids: Vec<String> =
        client.policies(org).await?.iter().map(|view| view.policy.id.to_string()).collect();
    ids.retain(|id| value::ends(id, wanted));
    match ids.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(ExitCode::NotFound, format!("{org} has no policy {wanted:?}"))
            .hint("`qgjob org oidc-policy list` shows all")),
        several => Err(Failure::usage(format!("the ids of several policies end in {wanted}"))
            .hint(format!("use more of it: {}", several.join(", ")))),
    }
}

fn matches(conditions: &Conditions) -> String {
    let one = |(claim, patterns): (&ClaimName, &Vec<Pattern>)| {
        format!("{claim}={}", patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join("|"))
    };
    conditions.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn words(may: &BTreeSet<May>) -> String {
    may.iter().map(|may| may.as_str()).collect::<Vec<_>>().join(",")
}

fn verdict(context: &Context, tested: &PolicyTested) -> String {
    let mut text = format!("The id-token is good: {}", who(&tested.run));
    for verdict in &tested.policies {
        let (mark, says) = match &verdict.unmet {
            None => (context.output.paint(GOOD, "✓"), "lets it in".to_owned()),
            Some(unmet) => (context.output.paint(BAD, "✗"), plain(unmet)),
        };
        text.push_str(&format!("\n  {mark} {}  {says}", verdict.policy_id));
    }
    match tested.policy_id {
        Some(id) => text.push_str(&format!("\n{id} counts")),
        None => text.push_str("\nNo policy lets it in"),
    }
    text
}

/// A pipeline's run, for people.
pub fn who(run: &CiRun) -> String {
    let mut text = plain(run.repository.as_deref().unwrap_or(&run.subject));
    for (before, part) in
        [(" run ", &run.run_id), (" attempt ", &run.attempt), (" ", &run.git_ref), (" by ", &run.event)]
    {
        if let Some(part) = part {
            text.push_str(before);
            text.push_str(&plain(part));
        }
    }
    text
}
