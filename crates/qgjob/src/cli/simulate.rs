//! `qgjob simulate`.

mod from_server;

use std::path::{Path, PathBuf};

use qgjob_core::model::exit::ExitCode;
use qgjob_simulation::benchmark::{self, Check, Seeds};
use qgjob_simulation::chart;
use qgjob_simulation::metrics::{self, Yardstick};
use qgjob_simulation::policy::Choice;
use qgjob_simulation::report::{self, Comparison, Source};
use qgjob_simulation::workload::catalogue::{self, Changes};
use qgjob_simulation::workload::exported::Document;
use serde_json::json;

use super::Context;
use super::failure::{Failure, Result};
use crate::output::{self, BAD, BOLD, DIM, GOOD, Object, Output};

/// What is replayed when nothing is named.
const USUAL: [&str; 4] = ["a1", "a2", "a3", "b8"];

/// Replay workloads through qgjob's placement and the rules of others
///
/// Time is virtual: hours of a large fleet take seconds. No server is asked but with --from-server, and none is changed.
/// docs/SIMULATION.md says what the workloads are and what each column means.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob simulate a2 b8 --seed=1 --seed=2\n  qgjob simulate a2 --policy=qgjob --chart=a2.svg\n  \
        qgjob simulate --from-file=workload.json -o json\n  qgjob simulate --from-server --since=2d --export=workload.json\n  \
        qgjob simulate --benchmark"
)]
pub struct Simulate {
    /// Names, or how names begin: `d5` is d5-10 to d5-180 [default: a1 a2 a3 b8]
    workloads: Vec<String>,
    /// List the workloads
    #[arg(long, conflicts_with_all = ["workloads", "from_file", "benchmark", "chart"])]
    list: bool,
    /// Seed of the workload; several: the mean over them [default: 0]
    #[arg(long, value_name = "N")]
    seed: Vec<u64>,
    /// Only this policy; several can be named
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(policy_names()))]
    policy: Vec<String>,
    /// Another number of devices, 6 or more: one of each kind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(6..=100_000))]
    devices: Option<u32>,
    /// Another load: work that arrives per device and second, installs not included
    #[arg(long, value_name = "X", value_parser = load)]
    load: Option<f64>,
    /// A workload in JSON, as docs/SIMULATION.md describes it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workloads", "benchmark", "devices", "load"])]
    from_file: Option<PathBuf>,
    /// What the server did: its jobs as they came, as long as they took, on the devices that it has
    #[arg(long, conflicts_with_all = ["workloads", "from_file", "benchmark", "devices", "load", "list"])]
    from_server: bool,
    /// With --from-server: the jobs that were submitted since then, an instant or a span back from now [default: 7d]
    #[arg(long, value_name = "WHEN", value_parser = from_server::since, requires = "from_server")]
    since: Option<from_server::Since>,
    /// With --from-server: write the workload to this file, for --from-file
    #[arg(long, value_name = "FILE", requires = "from_server")]
    export: Option<PathBuf>,
    /// Draw what each device did when, as SVG; of one workload, the first policy and the first seed
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Check the targets of placement; exit code 1 when one is missed
    #[arg(long, conflicts_with_all = ["workloads", "policy", "devices", "load", "chart"])]
    benchmark: bool,
}

fn policy_names() -> Vec<&'static str> {
    Choice::all().iter().map(Choice::name).collect()
}

fn load(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(load) if load > 0.0 && load <= 3.0 => Ok(load),
        _ => Err("a load is more than 0 and at most 3".to_owned()),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Simulate {
    pub async fn run(self, context: &Context) -> Result {
        if self.list {
            return list(&context.output);
        }
        if self.benchmark {
            return benchmark(&context.output, self.seed);
        }
        let sources = self.sources(context).await?;
        let seeds = if self.seed.is_empty() { vec![0] } else { self.seed.clone() };
        let choices: Vec<Choice> = match self.policy.as_slice() {
            [] => Choice::all(),
            names => names.iter().filter_map(|name| Choice::named(name)).collect(),
        };
        if let Some(path) = &self.chart {
            let [source] = sources.as_slice() else {
                return Err(Failure::usage("a chart shows one workload: name it"));
            };
            draw(path, source, seeds[0], &choices[0])?;
        }
        let mut compared = Vec::new();
        for source in &sources {
            let comparison = report::compare(source, &seeds, &choices, threads());
            let document = output::typed("simulation", &comparison);
            let gap = if compared.is_empty() { "" } else { "\n" };
            let text = format!("{gap}{}", text(&context.output, &comparison));
            compared.push(Object::new(&comparison.workload, &document, text));
        }
        context.output.objects(&compared, compared.len() > 1)?;
        if let Some(path) = &self.chart {
            context.output.done(format!("Drawn: {}", path.display()));
        }
        Ok(ExitCode::Ok)
    }

    async fn sources(&self, context: &Context) -> Result<Vec<Source>> {
        if self.from_server {
            return Ok(vec![from_server::read(context, self.since, self.export.as_deref()).await?]);
        }
        if let Some(path) = &self.from_file {
            return Ok(vec![read(path)?]);
        }
        let changes = Changes { devices: self.devices.map(|count| count as usize), load: self.load };
        let usual = USUAL.map(str::to_owned);
        let names = if self.workloads.is_empty() { usual.as_slice() } else { &self.workloads };
        let mut sources = Vec::new();
        for name in names {
            let matching = catalogue::matching(name);
            if matching.is_empty() {
                let all: Vec<_> = catalogue::ALL.iter().map(|named| named.name).collect();
                return Err(Failure::usage(format!("there is no workload {name:?}"))
                    .hint(format!("there are {}", all.join(", "))));
            }
            sources.extend(matching.into_iter().map(|named| Source::Named(named, changes)));
        }
        Ok(sources)
    }
}

fn read(path: &Path) -> Result<Source> {
    let unusable = |why: String| Failure::usage(format!("{} is no workload", path.display())).cause(why);
    let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
    let workload = document.workload().map_err(|error| unusable(error.to_string()))?;
    Ok(Source::Given(Box::new(workload), "from a file".to_owned()))
}

fn draw(path: &Path, source: &Source, seed: u64, choice: &Choice) -> Result<()> {
    let workload = source.workload(seed);
    let too_many =
        |error: chart::TooManyDevices| Failure::usage(error.to_string()).hint("--devices takes fewer");
    chart::fits(&workload).map_err(too_many)?;
    let yardstick = Yardstick::of(&workload);
    let trace = report::replay(choice, &workload, seed);
    let metrics = metrics::measure(&workload, &yardstick, &trace).metrics;
    let caption = chart::Caption { policy: choice.name(), seed, metrics: &metrics, yardstick: &yardstick };
    let svg = chart::draw(&workload, &trace, &caption).map_err(too_many)?;
    std::fs::write(path, svg)
        .map_err(|error| Failure::usage(format!("cannot write {}", path.display())).cause(error.to_string()))
}

fn list(output: &Output) -> Result {
    let mut list = output::List::new("workloads", &["WORKLOAD", "WHAT IT IS"]);
    for named in catalogue::ALL {
        let item = json!({ "schema": "qgjob.workload_name/v1", "name": named.name, "about": named.about });
        list.push(named.name, &item, vec![named.name.to_owned(), named.about.to_owned()]);
    }
    output.list(&list)?;
    Ok(ExitCode::Ok)
}

const HEADERS: [&str; 14] = [
    "POLICY",
    "INSTALLS",
    "/ BOUND",
    "TIME LOST",
    "ALL DONE",
    "/ BOUND",
    "RUN MEAN",
    "P95",
    "P99",
    "SLOWDOWN",
    "P95",
    "WAIT LOW/NORMAL/HIGH",
    "JAIN",
    "DECISION",
];

fn text(output: &Output, comparison: &Comparison) -> String {
    let seeds: Vec<_> = comparison.seeds.iter().map(u64::to_string).collect();
    let title = format!("{}: {}", comparison.workload, comparison.about);
    let facts = format!(
        "{:.0} devices, {:.0} runs, {:.0} jobs; seed {}; no policy is done before {:.0} s",
        comparison.devices,
        comparison.runs,
        comparison.jobs,
        seeds.join(", "),
        comparison.makespan_bound_s,
    );
    let rows: Vec<Vec<String>> = comparison
        .policies
        .iter()
        .map(|result| {
            let metrics = &result.metrics;
            let wait = |wait: Option<f64>| wait.map_or("–".to_owned(), |seconds| format!("{seconds:.0}"));
            let waits = &metrics.wait_s;
            vec![
                result.policy.clone(),
                format!("{:.0}", metrics.installs),
                format!("{:.2}", metrics.installs_over_bound),
                format!("{:.1} %", 100.0 * metrics.install_share),
                format!("{:.0} s", metrics.makespan_s),
                format!("{:.3}", metrics.makespan_over_bound),
                format!("{:.0} s", metrics.completion_s.mean),
                format!("{:.0}", metrics.completion_s.p95),
                format!("{:.0}", metrics.completion_s.p99),
                format!("{:.2}", metrics.slowdown.mean),
                format!("{:.2}", metrics.slowdown.p95),
                format!("{}/{}/{} s", wait(waits.low), wait(waits.normal), wait(waits.high)),
                format!("{:.2}", metrics.jain),
                format!("{:.0} ns", metrics.decision_ns.p50),
            ]
        })
        .collect();
    let faults = faults(output, comparison);
    format!(
        "{}\n{}\n{}\n{faults}",
        output.paint(BOLD, &title),
        output.paint(DIM, &facts),
        output.table(&HEADERS, &rows)
    )
}

const FAULT_HEADERS: [&str; 7] = [
    "POLICY",
    "BROKE OR LOST",
    "DEVICE HOURS",
    "GOOD JOBS FAILED",
    "BAD JOBS FAILED",
    "QUARANTINES",
    "OF HEALTHY",
];

/// What broke under each policy, if anything did.
fn faults(output: &Output, comparison: &Comparison) -> String {
    let rows: Vec<Vec<String>> = comparison
        .policies
        .iter()
        .filter(|result| result.metrics.faults.attempts > 0.0)
        .map(|result| {
            let faults = &result.metrics.faults;
            let counts = [
                faults.attempts,
                faults.device_hours,
                faults.good_jobs_failed,
                faults.bad_jobs_failed,
                faults.quarantines,
                faults.healthy_quarantined,
            ];
            let counts = counts.iter().map(|count| format!("{count:.0}"));
            std::iter::once(result.policy.clone()).chain(counts).collect()
        })
        .collect();
    if rows.is_empty() { String::new() } else { format!("\n{}\n", output.table(&FAULT_HEADERS, &rows)) }
}

fn benchmark(output: &Output, seeds: Vec<u64>) -> Result {
    let checks = benchmark::run(&Seeds { given: seeds }, threads());
    let missed = checks.iter().filter(|check| !check.holds).count();
    let document = json!({ "schema": "qgjob.benchmark/v1", "holds": missed == 0, "checks": checks });
    output.object(&document, "benchmark", || {
        let rows: Vec<_> = checks.iter().map(|check| row(output, check)).collect();
        let end = match missed {
            0 => format!("All {} targets hold.", checks.len()),
            _ => format!("{missed} of {} targets are missed.", checks.len()),
        };
        format!("{}\n{end}", output.table(&["ROW", "WHAT", "MEASURED", "TARGET", ""], &rows))
    })?;
    Ok(if missed == 0 { ExitCode::Ok } else { ExitCode::TestsFailed })
}

fn row(output: &Output, check: &Check) -> Vec<String> {
    let measured = check.measured;
    let digits = if measured.abs() >= 100.0 || measured.fract() == 0.0 { 0 } else { 3 };
    let verdict = if check.holds { output.paint(GOOD, "OK") } else { output.paint(BAD, "MISSED") };
    vec![
        check.row.to_owned(),
        check.what.clone(),
        format!("{measured:.digits$}"),
        check.target.to_string(),
        verdict.into_owned(),
    ]
}
