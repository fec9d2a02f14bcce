//! What each device did when, as an SVG picture: a row per device, time from left to right.

mod axis;
mod colour;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::{Attempt, Trace};
use crate::metrics::{Metrics, Yardstick};
use crate::policy::End;
use crate::workload::Workload;

/// More rows than this cannot be told apart.
pub const MOST_DEVICES: usize = 1_000;

const WIDTH: f64 = 1_600.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 104.0;
/// Height that the rows share, as long as each gets between the least and the most.
const ROWS: f64 = 900.0;
const LEAST_ROW: f64 = 3.0;
const MOST_ROW: f64 = 22.0;
/// A row of at least this height has room for its name.
const NAMED_ROW: f64 = 9.0;
const FONT: f64 = 11.0;
/// Jobs at least this wide are set apart from the next.
const SET_APART: f64 = 3.0;
/// With more versions than this, the legend shows their colours without their names.
const MOST_NAMES: usize = 24;
const LEGEND_COLUMN: f64 = 190.0;
const LEGEND_LINE: f64 = 20.0;

/// There are more than [`MOST_DEVICES`] devices.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chart shows at most {MOST_DEVICES} devices, not {0}")]
pub struct TooManyDevices(pub usize);

/// What to say above the picture.
#[derive(Debug, Clone, Copy)]
pub struct Caption<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The seed.
    pub seed: u64,
    /// What the replay showed.
    pub metrics: &'a Metrics,
    /// What bounds it.
    pub yardstick: &'a Yardstick,
}

/// Tells whether a workload can be drawn.
///
/// # Errors
/// When there are too many devices.
pub fn fits(workload: &Workload) -> Result<(), TooManyDevices> {
    let devices = workload.devices.len();
    if devices > MOST_DEVICES { Err(TooManyDevices(devices)) } else { Ok(()) }
}

/// Draws a replay.
///
/// # Errors
/// When there are too many devices.
pub fn draw(workload: &Workload, trace: &Trace, caption: &Caption) -> Result<String, TooManyDevices> {
    fits(workload)?;
    Ok(Chart::new(workload, trace, caption).svg())
}

struct Chart<'a> {
    workload: &'a Workload,
    trace: &'a Trace,
    caption: &'a Caption<'a>,
    /// Versions in the order in which they first ran, with their colours.
    colours: Vec<(usize, String)>,
    left: f64,
    row: f64,
    end_s: f64,
}

impl<'a> Chart<'a> {
    fn new(workload: &'a Workload, trace: &'a Trace, caption: &'a Caption) -> Self {
        let mut first: BTreeMap<usize, f64> = BTreeMap::new();
        for attempt in &trace.attempts {
            let at = first.entry(workload.groups[attempt.group].version).or_insert(f64::INFINITY);
            *at = at.min(attempt.started);
        }
        let mut versions: Vec<(usize, f64)> = first.into_iter().collect();
        versions.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let count = versions.len();
        let colours = versions.into_iter().enumerate();
        let colours = colours.map(|(at, (version, _))| (version, colour::of(at, count))).collect();
        let devices = workload.devices.len();
        let row = (ROWS / devices as f64).clamp(LEAST_ROW, MOST_ROW);
        let longest = workload.devices.iter().map(|device| device.name.chars().count()).max().unwrap_or(0);
        let end_s = trace.attempts.iter().map(|attempt| attempt.ended).fold(1.0, f64::max);
        let left = 40.0 + longest.min(24) as f64 * 0.62 * FONT;
        Self { workload, trace, caption, colours, left, row, end_s }
    }

    fn x(&self, seconds: f64) -> f64 {
        self.left + seconds / self.end_s * (WIDTH - self.left - RIGHT)
    }

    fn y(&self, device: usize) -> f64 {
        TOP + device as f64 * self.row
    }

    fn bottom(&self) -> f64 {
        self.y(self.workload.devices.len())
    }

    fn svg(&self) -> String {
        let names = self.colours.len() <= MOST_NAMES;
        let columns = ((WIDTH - self.left - RIGHT) / LEGEND_COLUMN).floor().max(1.0) as usize;
        let lines = if names { self.colours.len().div_ceil(columns) } else { 1 };
        let height = self.bottom() + 84.0 + lines as f64 * LEGEND_LINE;
        let mut svg = String::new();
        // Writing to a string cannot fail.
        _ = write!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="{FONT}" fill="#334155">
<defs><pattern id="install" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" fill="#0f172a" fill-opacity="0.72"/><rect width="1.6" height="5" fill="#ffffff" fill-opacity="0.55"/></pattern><pattern id="broken" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect width="6" height="6" fill="#fee2e2"/><rect width="3" height="6" fill="#dc2626"/></pattern></defs>
<rect width="{WIDTH}" height="{height:.0}" fill="#ffffff"/>
"##
        );
        self.heading(&mut svg);
        self.rows(&mut svg);
        self.time(&mut svg);
        self.pieces(&mut svg);
        self.bound(&mut svg);
        self.legend(&mut svg, names, columns);
        svg.push_str("</svg>\n");
        svg
    }

    fn heading(&self, svg: &mut String) {
        let metrics = self.caption.metrics;
        let jobs = self.workload.jobs();
        let devices = self.workload.devices.len();
        _ = write!(
            svg,
            r##"<text x="24" y="38" font-size="20" font-weight="600" fill="#0f172a">{} · {}</text>
<text x="24" y="60" font-size="13">seed {} · {jobs} jobs of {} versions on {devices} devices · {} installs, {:.2} × bound · done after {}, {:.2} × bound · a run takes {} on average · {:.1} % of device time installs</text>
"##,
            escaped(self.caption.policy),
            escaped(&self.workload.name),
            self.caption.seed,
            self.colours.len(),
            metrics.installs,
            metrics.installs_over_bound,
            axis::span(metrics.makespan_s),
            metrics.makespan_over_bound,
            axis::span(metrics.completion_s.mean),
            100.0 * metrics.install_share,
        );
    }

    fn rows(&self, svg: &mut String) {
        let gap = if self.row >= NAMED_ROW { 1.5 } else { 0.4 };
        let step = (NAMED_ROW / self.row).ceil().max(1.0) as usize;
        for (at, device) in self.workload.devices.iter().enumerate() {
            let (y, name) = (self.y(at), escaped(&device.name));
            _ = writeln!(
                svg,
                r##"<rect class="device" x="{:.1}" y="{:.2}" width="{:.1}" height="{:.2}" fill="#f1f5f9"><title>{name}</title></rect>"##,
                self.left,
                y + gap / 2.0,
                WIDTH - self.left - RIGHT,
                self.row - gap,
            );
            if at % step == 0 {
                let size = FONT.min(self.row * step as f64 - 0.5);
                let middle = y + self.row / 2.0 + size * 0.35;
                _ = writeln!(
                    svg,
                    r##"<text x="{:.1}" y="{middle:.1}" text-anchor="end" font-size="{size:.1}">{name}</text>"##,
                    self.left - 8.0
                );
            }
        }
    }

    fn time(&self, svg: &mut String) {
        let bottom = self.bottom();
        for at in axis::ticks(self.end_s) {
            let x = self.x(at);
            _ = writeln!(
                svg,
                r##"<path d="M{x:.1} {:.1}V{:.1}" stroke="#cbd5e1" stroke-width="1"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                TOP - 6.0,
                bottom + 6.0,
                bottom + 21.0,
                axis::span(at)
            );
        }
    }

    /// All jobs of one version are one path, and so are its installs: a tenth of the size of single rectangles.
    fn pieces(&self, svg: &mut String) {
        let mut jobs: BTreeMap<usize, String> = BTreeMap::new();
        let mut installs: BTreeMap<usize, String> = BTreeMap::new();
        let (mut all_installs, mut broken) = (String::new(), String::new());
        for attempt in &self.trace.attempts {
            let version = self.workload.groups[attempt.group].version;
            let Attempt { started, install_s, ended, .. } = *attempt;
            let installed = (started + install_s).min(ended);
            if install_s > 0.0 {
                let piece = self.piece(attempt.device, started, installed);
                installs.entry(version).or_default().push_str(&piece);
                all_installs.push_str(&piece);
            }
            let piece = self.piece(attempt.device, installed, ended);
            if attempt.end == End::Done {
                jobs.entry(version).or_default().push_str(&piece);
            } else {
                broken.push_str(&piece);
            }
        }
        for (version, colour) in &self.colours {
            for pieces in [&jobs, &installs] {
                if let Some(path) = pieces.get(version) {
                    _ = writeln!(svg, r##"<path fill="{colour}" d="{path}"/>"##);
                }
            }
        }
        _ = writeln!(svg, r##"<path fill="url(#install)" d="{all_installs}"/>"##);
        _ = writeln!(svg, r##"<path fill="url(#broken)" d="{broken}"/>"##);
    }

    fn piece(&self, device: usize, from: f64, to: f64) -> String {
        let inset = if self.row >= NAMED_ROW { 1.5 } else { 0.25 };
        let (x, y) = (self.x(from), self.y(device) + inset);
        let mut width = self.x(to) - x;
        if width > SET_APART {
            width -= 0.7;
        }
        let height = self.row - 2.0 * inset;
        format!("M{x:.1} {y:.2}h{width:.2}v{height:.2}h{:.2}z", -width)
    }

    fn bound(&self, svg: &mut String) {
        let bound = self.caption.yardstick.makespan_s;
        if bound <= 0.0 || bound > self.end_s {
            return;
        }
        let x = self.x(bound);
        _ = writeln!(
            svg,
            r##"<path d="M{x:.1} {:.1}V{:.1}" stroke="#0f172a" stroke-width="1.4" stroke-dasharray="5 4"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#0f172a">no policy ends before {}</text>"##,
            TOP - 16.0,
            self.bottom(),
            x - 5.0,
            TOP - 10.0,
            axis::span(bound)
        );
    }

    fn legend(&self, svg: &mut String, names: bool, columns: usize) {
        let mut y = self.bottom() + 38.0;
        let swatch = |svg: &mut String, x: f64, y: f64, fills: &[&str], text: &str| {
            for fill in fills {
                _ = write!(
                    svg,
                    r##"<rect x="{x:.1}" y="{y:.1}" width="22" height="12" rx="2" fill="{fill}"/>"##
                );
            }
            _ = writeln!(svg, r##"<text x="{:.1}" y="{:.1}">{}</text>"##, x + 29.0, y + 10.0, escaped(text));
        };
        let sample = self.colours.first().map_or("#94a3b8", |(_, colour)| colour);
        let kinds: [(&[&str], &str); 4] = [
            (&[sample], "job, in its version's colour"),
            (&[sample, "url(#install)"], "install"),
            (&["url(#broken)"], "broken or lost"),
            (&["#f1f5f9"], "idle"),
        ];
        for (at, (fills, text)) in kinds.into_iter().enumerate() {
            swatch(svg, self.left + at as f64 * LEGEND_COLUMN, y, fills, text);
        }
        y += 24.0;
        if names {
            for (at, (version, colour)) in self.colours.iter().enumerate() {
                let x = self.left + (at % columns) as f64 * LEGEND_COLUMN;
                let line = (at / columns) as f64 * LEGEND_LINE;
                let name: String = self.workload.version_name(*version).chars().take(24).collect();
                swatch(svg, x, y + line, &[colour], &name);
            }
            return;
        }
        let width = (WIDTH - self.left - RIGHT - 260.0) / self.colours.len() as f64;
        for (at, (_, colour)) in self.colours.iter().enumerate() {
            let x = self.left + at as f64 * width;
            _ = write!(
                svg,
                r##"<rect x="{x:.1}" y="{y:.1}" width="{width:.2}" height="12" fill="{colour}"/>"##
            );
        }
        let x = self.left + self.colours.len() as f64 * width + 8.0;
        _ = writeln!(
            svg,
            r##"<text x="{x:.1}" y="{:.1}">{} versions, by their first job</text>"##,
            y + 10.0,
            self.colours.len()
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
