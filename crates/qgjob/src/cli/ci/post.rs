//! The post step of the action: cancels what the main step may have left behind, because it was killed or the server was
//! away.

use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{IdempotencyKey, OrgId};

use super::run::meaning;
use super::step::{Show, Step};
use crate::ci::github::inputs::Inputs;
use crate::cli::Context;
use crate::cli::failure::Result;

pub async fn run(context: &Context) -> Result {
    let step = Step::of_action(context, Show { annotations: false, summary: false });
    step.begin("qgjob: what was left behind");
    let result = clear(context).await;
    step.end(result).await
}

async fn clear(context: &Context) -> Result {
    let kept = |name: &str| context.env.get(&format!("STATE_{name}"));
    let (Some(org), Some(key), None) = (kept("org"), kept("key"), kept("left")) else {
        context.output.note("Nothing was left behind.");
        return Ok(ExitCode::Ok);
    };
    let (org_id, key): (OrgId, IdempotencyKey) = (org.parse()?, key.parse()?);
    cancel(context, &org_id, &key).await.map_err(|failure| {
        failure.hint(format!(
            "if a run was made, it goes on; to end it: qgjob cancel --org-id={org_id} --idempotency-key={key}"
        ))
    })?;
    context.output.note(format!("Cancelled what was submitted with the key {key}, unless it was over."));
    Ok(ExitCode::Ok)
}

async fn cancel(context: &Context, org_id: &OrgId, key: &IdempotencyKey) -> Result<()> {
    let inputs = Inputs::of(&context.env);
    // A later step may have removed the project, which is no reason to let its run go on.
    let meaning = meaning(context, &inputs).or_else(|_| meaning(context, &inputs.without("project-dir")))?;
    Ok(meaning.context.client()?.cancel_by_key(org_id, key).await?)
}
