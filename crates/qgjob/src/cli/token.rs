//! `qgjob token`.

use std::time::Duration;

use qgjob_core::api::tokens::NewToken;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::token::{self, Id, Kind};

use super::failure::{Failure, Result};
use super::{Context, value};
use crate::client::Client;
use crate::output::{self, GOOD, plain};

/// Tokens for people and pipelines
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob token create --org-id=qualgent --name=ci --ttl=90d")]
pub enum Token {
    /// Make a token; its secret is printed once and kept nowhere
    #[command(
        after_help = "Examples:\n  qgjob token create --org-id=qualgent --name=ci > token.txt\n  qgjob token create --admin --name=operator --ttl=7d"
    )]
    Create {
        /// Name, for lists
        #[arg(long)]
        name: String,
        /// How long it works: 1m to 366d [default: 90d]
        #[arg(long, value_name = "SPAN", value_parser = value::span)]
        ttl: Option<Duration>,
        /// For everything on every org, instead of one org's jobs
        #[arg(long)]
        admin: bool,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Example:\n  qgjob token list")]
    List,
    /// Show the token that is used: what it is for, whose it is, and until when it works
    ///
    /// In CI without a stored token, this logs in with the id-token of the job.
    #[command(after_help = "Example:\n  qgjob token whoami")]
    Whoami,
    /// End a token at once
    #[command(after_help = "Example:\n  qgjob token revoke tok_01kb4x9tq3m8e7w2n5r6v0zcha")]
    Revoke {
        /// Id of the token, or its last 6 characters or more
        id: String,
    },
}

impl Token {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let client = context.client_of(&settings)?;
        match self {
            Self::Create { name, ttl, admin } => {
                let org_id = if admin { None } else { Some(super::submit::org(&settings)?) };
                let kind = if admin { Kind::Admin } else { Kind::Api };
                create(context, &client, NewToken { kind, name, org_id, ttl_ms: ttl.map(millis) }).await?;
            }
            Self::List => {
                let headers = &["TOKEN", "KIND", "NAME", "ORG", "CREATED", "EXPIRES"];
                let mut list = output::List::new("tokens", headers);
                for token in client.tokens().await?.into_iter().rev() {
                    let row = vec![
                        token.id.to_string(),
                        token.kind.to_string(),
                        token.name.clone(),
                        token.org_id.as_ref().map(ToString::to_string).unwrap_or_default(),
                        token.created_at.to_string(),
                        token.expires_at.map(|at| at.to_string()).unwrap_or_default(),
                    ];
                    list.push(token.id, &output::typed("token", &token), row);
                }
                context.output.list(&list)?;
            }
            Self::Whoami => {
                let me = client.whoami().await?;
                context.output.object(&me, &me.token.id.to_string(), || facts(&me.token))?;
            }
            Self::Revoke { id } => {
                let id = find(&client, &id).await?;
                client.revoke_token(&id).await?;
                let document = serde_json::json!({ "schema": "qgjob.token_revoked/v1", "id": id });
                let text = || format!("{} Revoked {id}", context.output.paint(GOOD, "✓"));
                context.output.object(&document, &id, text)?;
            }
        }
        Ok(ExitCode::Ok)
    }
}

fn facts(token: &token::Token) -> String {
    let mut facts = vec![("kind", token.kind.to_string()), ("name", plain(&token.name))];
    facts.extend(token.org_id.as_ref().map(|org| ("org", org.to_string())));
    facts.extend(token.expires_at.map(|at| ("works until", at.to_string())));
    if let Some(ci) = &token.ci {
        let may: Vec<&str> = ci.may.iter().map(|may| may.as_str()).collect();
        facts.push(("pipeline", super::org::who(&ci.run)));
        facts.push(("may", format!("{}, up to priority {}", may.join(","), ci.max_priority)));
        facts.push(("policy", ci.policy_id.to_string()));
    }
    facts.iter().fold(token.id.to_string(), |text, (name, value)| format!("{text}\n  {name:<12} {value}"))
}

/// The id of the token that is named by it or by its end.
async fn find(client: &Client, wanted: &str) -> Result<String> {
    if wanted.parse::<Id>().is_ok() {
        return Ok(wanted.to_owned());
    }
    let mut ids: Vec<String> = client.tokens().await?.iter().map(|token| token.id.to_string()).collect();
    ids.retain(|id| value::ends(id, wanted));
    match ids.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(ExitCode::NotFound, format!("there is no token {wanted:?}"))
            .hint("`qgjob token list` shows all")),
        several => Err(Failure::usage(format!("the ids of several tokens end in {wanted}"))
            .hint(format!("use more of it: {}", several.join(", ")))),
    }
}

/// Makes a token and prints its secret, alone, so that it can go straight to a file.
pub async fn create(context: &Context, client: &Client, new: NewToken) -> Result {
    let made = client.create_token(&new).await?;
    let until = made.token.expires_at.map(|at| format!(", works until {at}")).unwrap_or_default();
    context.output.note(format!(
        "{} token {} ({}{until}). This is the only time it is shown:",
        made.token.kind, made.token.id, made.token.name
    ));
    context.output.object(&output::typed("token", &made), &made.secret, || made.secret.clone())?;
    Ok(ExitCode::Ok)
}

/// A span as the wire has it.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
