//! A chart, as SVG: a bar for the median of each row, a line from the least to the most.

use std::fmt::Write as _;

use crate::plan::{ROWS, Scenario};
use crate::run::{Run, Sample, median};
use crate::table::figure;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 90.0;
const LINE: f64 = 26.0;
const TOP: f64 = 44.0;

/// One scenario. `None` if none of its rows was measured.
pub fn chart(run: &Run, scenario: &Scenario) -> Option<String> {
    let rates = |row: &str| run.of(scenario.id, row).into_iter().map(Sample::rate).collect::<Vec<_>>();
    let rows: Vec<_> = ROWS.iter().map(|row| (row, rates(row.id))).filter(|(_, rates)| !rates.is_empty()).collect();
    let most = rows.iter().flat_map(|(_, rates)| rates).copied().max_by(f64::total_cmp)?;
    let height = TOP + LINE * rows.len() as f64 + 12.0;
    let at = |rate: f64| LEFT + (WIDTH - LEFT - RIGHT) * rate / most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}, requests a second</text>\n",
        escaped(scenario.title)
    );
    for (line, (row, rates)) in rows.into_iter().enumerate() {
        let y = TOP + LINE * line as f64;
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let middle = median(rates)?;
        let colour = if row.id.starts_with("ours") { "#2563a8" } else { "#9aa4b0" };
        let (words, wire, end) = (y + 14.0, y + 9.0, LEFT - 8.0);
        let (width, from, to, after) = (at(middle) - LEFT, at(least), at(most), at(most) + 6.0);
        let (title, figure) = (escaped(row.title), figure(Some(middle)));
        let _ = writeln!(
            svg,
            "<text x=\"{end}\" y=\"{words}\" text-anchor=\"end\">{title}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\" fill=\"{colour}\"/>\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{wire}\" y2=\"{wire}\" stroke=\"#222\"/>\
             <text x=\"{after:.1}\" y=\"{words}\">{figure}</text>"
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SCENARIOS;
    use crate::run::tests::{run, sample};

    #[test]
    fn the_longest_bar_is_the_fastest_row() {
        let mut run = run();
        let first = SCENARIOS.iter().find(|scenario| scenario.id == "first").unwrap();
        assert_eq!(chart(&run, first), None, "nothing was measured");
        run.samples = vec![sample("first", "bare", 0, 60_000), sample("first", "ours-memory", 0, 30_000)];
        let svg = chart(&run, first).unwrap();
        assert!(svg.contains("width=\"470.0\" height=\"18\" fill=\"#9aa4b0\""), "{svg}");
        assert!(svg.contains("width=\"235.0\" height=\"18\" fill=\"#2563a8\""), "{svg}");
        assert!(svg.contains(">60,000</text>"), "{svg}");
    }
}
