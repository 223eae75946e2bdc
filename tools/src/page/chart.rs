//! Charts of lines as inline SVG: linear or logarithmic axes, a legend, horizontal marks.
//!
//! A line of more points than can be seen is thinned: of each run of neighbours the mean or the largest is kept, as suits
//! what it shows (a latency's peak must not vanish).

use super::{escape, number};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 44.0;
/// More points than this on a line are thinned.
const MOST_POINTS: usize = 800;
/// Colours in the style sheet.
const COLOURS: usize = 8;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten; what is not above 0 is left out.
    Log,
}

/// What is kept of neighbours that share a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Their mean.
    Mean,
    /// The largest.
    Max,
}

/// One line.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// If there are too many.
    pub keep: Keep,
}

/// A chart.
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below the horizontal axis.
    pub x_label: String,
    /// Above the vertical axis.
    pub y_label: String,
    /// The horizontal axis.
    pub x: Scale,
    /// The vertical axis.
    pub y: Scale,
    /// Places and names on the horizontal axis; `None`: round numbers.
    pub x_ticks: Option<Vec<(f64, String)>>,
    /// The lines.
    pub lines: Vec<Line>,
    /// Horizontal lines with names.
    pub marks: Vec<(f64, String)>,
}

struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// Over these values; `None` if none of them has a place on it.
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Axis> {
        let usable = values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) = usable.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        Some(match scale {
            Scale::Linear => {
                let step = step(high.max(1e-9));
                Axis { scale, low: 0.0, high: (high / step).ceil().max(1.0) * step }
            }
            Scale::Log => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                Axis { scale, low, high: if high > low { high } else { low + 1.0 } }
            }
        })
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> Option<f64> {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log if value > 0.0 => value.log10(),
            Scale::Log => return None,
        };
        value.is_finite().then(|| ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high);
                (0..=(self.high / step).round() as u32).map(|i| f64::from(i) * step).collect()
            }
            Scale::Log => (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

/// A round distance that divides `high` into four to ten.
fn step(high: f64) -> f64 {
    let power = 10_f64.powf((high / 4.0).log10().floor());
    [5.0, 2.0, 1.0].iter().map(|factor| factor * power).find(|step| high / step >= 4.0).unwrap_or(power)
}

fn thin(line: &Line) -> Vec<(f64, f64)> {
    let run = line.points.len().div_ceil(MOST_POINTS).max(1);
    let kept = line.points.chunks(run).map(|run| {
        let y = match line.keep {
            Keep::Mean => run.iter().map(|(_, y)| y).sum::<f64>() / run.len() as f64,
            Keep::Max => run.iter().map(|(_, y)| *y).fold(f64::MIN, f64::max),
        };
        (run[0].0, y)
    });
    kept.collect()
}

// Writing into a String cannot fail: the results are let go.
impl Chart {
    /// As SVG; `None` if no line has a point.
    pub fn svg(&self) -> Option<String> {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::over(self.x, all().map(|(x, _)| *x))?;
        let y = Axis::over(self.y, all().map(|(_, y)| *y).chain(self.marks.iter().map(|(y, _)| *y)))?;
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let at_x = |value: f64| x.place(value).map(|place| LEFT + place * (right - LEFT));
        let at_y = |value: f64| y.place(value).map(|place| bottom - place * (bottom - TOP));
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"18\">{0}</text>\n",
            escape(&self.title)
        );
        for value in y.ticks() {
            let Some(at) = at_y(value) else { continue };
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                number(value)
            );
        }
        let round = || x.ticks().into_iter().map(|value| (value, number(value))).collect();
        for (value, name) in self.x_ticks.clone().unwrap_or_else(round) {
            let Some(at) = at_x(value) else { continue };
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"soft\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                escape(&name)
            );
        }
        for (value, name) in &self.marks {
            let Some(at) = at_y(*value) else { continue };
            let _ = writeln!(
                out,
                "<line class=\"mark\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                right - 4.0,
                at - 4.0,
                escape(name)
            );
        }
        let mut legend = LEFT;
        for (number, line) in self.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
            let colour = number % COLOURS;
            let points: Vec<String> = thin(line)
                .iter()
                .filter_map(|&(x, y)| Some(format!("{:.1},{:.1}", at_x(x)?, at_y(y)?)))
                .collect();
            // A single point would be invisible as a line.
            if let [point] = &points[..]
                && let Some((x, y)) = point.split_once(',')
            {
                let _ =
                    writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" style=\"fill:var(--c{colour})\"/>");
            }
            let _ = writeln!(
                out,
                "<polyline class=\"line\" style=\"stroke:var(--c{colour})\" points=\"{}\"/>\
                 <rect x=\"{legend:.1}\" y=\"30\" width=\"12\" height=\"4\" style=\"fill:var(--c{colour})\"/>\
                 <text x=\"{:.1}\" y=\"36\">{}</text>",
                points.join(" "),
                legend + 17.0,
                escape(&line.name)
            );
            legend += 34.0 + 7.0 * line.name.chars().count() as f64;
        }
        let _ = writeln!(
            out,
            "<text class=\"soft\" x=\"4\" y=\"{:.1}\">{}</text>\
             <text class=\"soft\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></svg>",
            TOP - 8.0,
            escape(&self.y_label),
            bottom + 34.0,
            escape(&self.x_label)
        );
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(y: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "t".into(),
            x_label: "x".into(),
            y_label: "y".into(),
            x: Scale::Linear,
            y,
            x_ticks: None,
            lines: vec![Line { name: "l".into(), points, keep: Keep::Max }],
            marks: Vec::new(),
        }
    }

    fn drawn(svg: &str) -> Vec<(f64, f64)> {
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let pair = |point: &str| {
            point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap()
        };
        points.split_whitespace().map(pair).collect()
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let svg = chart(Scale::Linear, vec![(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]).svg().unwrap();
        assert_eq!(drawn(&svg), [(LEFT, 276.0), ((LEFT + 924.0) / 2.0, 167.0), (924.0, TOP)]);
        assert!(svg.contains(">100<") && svg.contains(">20<"), "{svg}");
        let svg = chart(Scale::Log, vec![(0.0, 1.0), (1.0, 10.0), (2.0, 100.0), (3.0, 0.0)]).svg().unwrap();
        let heights: Vec<f64> = drawn(&svg).iter().map(|(_, y)| *y).collect();
        assert_eq!(heights, [276.0, 167.0, TOP], "and what has no logarithm is left out");
    }

    #[test]
    fn a_chart_without_points_is_none_and_any_points_make_one() {
        assert_eq!(chart(Scale::Linear, Vec::new()).svg(), None);
        assert_eq!(chart(Scale::Log, vec![(0.0, 0.0)]).svg(), None);
        for points in [vec![(0.0, 0.0)], vec![(1.0, f64::NAN), (2.0, 3.0)], vec![(0.0, 1e-12), (1.0, 1e15)]] {
            let svg = chart(Scale::Linear, points).svg().unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn thinning_keeps_the_peak() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[77_777].1 = 500.0;
        let line = Line { name: String::new(), points, keep: Keep::Max };
        let thinned = thin(&line);
        assert!(thinned.len() <= MOST_POINTS && thinned.iter().any(|(_, y)| *y == 500.0));
        let mean = thin(&Line { keep: Keep::Mean, ..line });
        assert!(mean.iter().all(|(_, y)| *y < 10.0));
    }

    #[test]
    fn steps_are_round() {
        for (high, expected) in [(100.0, 20.0), (10.0, 2.0), (7.0, 1.0), (45.0, 10.0), (0.003, 0.0005)] {
            assert!((step(high) - expected).abs() < 1e-12, "{high}: {}", step(high));
        }
    }
}
