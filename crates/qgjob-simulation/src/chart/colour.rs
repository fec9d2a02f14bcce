//! Colours that can be told apart.

/// For few versions: hues far apart, of similar weight on white.
const FEW: [&str; 12] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f", "#2f9bc1",
    "#d37295", "#86bc25", "#7f7fd5",
];
/// Degrees between the hues of neighbours: the golden angle, which never comes back to where it was.
const GOLDEN_ANGLE: f64 = 137.507_764;

/// The colour of the version at this place among so many.
pub(super) fn of(at: usize, count: usize) -> String {
    if count <= FEW.len() {
        return FEW[at].to_owned();
    }
    let hue = (at as f64 * GOLDEN_ANGLE) % 360.0;
    let lightness = [56, 46, 66][at % 3];
    let saturation = [52, 42, 62][at / 3 % 3];
    format!("hsl({hue:.0} {saturation}% {lightness}%)")
}
