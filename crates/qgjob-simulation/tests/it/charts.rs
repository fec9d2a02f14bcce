//! Charts show every device.

use qgjob_simulation::chart::{self, Caption, TooManyDevices};
use qgjob_simulation::metrics::Yardstick;
use qgjob_simulation::policy::Choice;

use super::{named, replayed};

fn chart(name: &str, devices: usize) -> Result<String, TooManyDevices> {
    let workload = named(name, 1, Some(devices));
    let choice = Choice::named("qgjob").unwrap();
    let (trace, measured) = replayed(&choice, &workload);
    let yardstick = Yardstick::of(&workload);
    let caption =
        Caption { policy: choice.name(), seed: 1, metrics: &measured.metrics, yardstick: &yardstick };
    chart::draw(&workload, &trace, &caption)
}

#[test]
fn a_chart_has_one_row_per_device() {
    for (name, devices) in [("a2", 7), ("b5", 40), ("d4", 400)] {
        let svg = chart(name, devices).unwrap();
        assert_eq!(svg.matches(r#"class="device""#).count(), devices, "{name}");
        assert!(svg.contains("no policy ends before") && svg.contains("url(#install)"), "{name}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count(), "{name}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
    }
}

#[test]
fn lost_attempts_are_drawn_apart() {
    let broken = |svg: &str| svg.lines().any(|line| line.contains("path fill=\"url(#broken)\" d=\"M"));
    assert!(broken(&chart("d4", 20).unwrap()) && !broken(&chart("a2", 20).unwrap()));
}

#[test]
fn too_many_devices_cannot_be_told_apart() {
    assert_eq!(chart("a2", 1_001), Err(TooManyDevices(1_001)));
}
