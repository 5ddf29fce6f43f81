//! The graph as a page for a browser: one file, which fetches nothing. Where it lies is worked out here; the page's own script
//! only brings out what a node needs and what needs it.
//!
//! A project of many tasks is drawn by rules and folders, and names its targets in lists below.

use std::collections::{BTreeMap, BTreeSet};

use handlebars::Handlebars;
use rust_sugiyama::configure::{Config, CrossingMinimization, RankingType};
use serde_json::{Value, json};

use super::{Drawn, End};
use crate::error::{Code, Error};

/// With more nodes than this nobody sees anything: tasks are drawn by their rules, and files by their folders.
const READABLE: usize = 60;

/// A node's list has so many names.
const NAMED: usize = 500;

/// In the units of the drawing.
const LETTER: f64 = 7.9;
const HEIGHT: f64 = 40.0;
const WIDEST: usize = 44;
const BETWEEN: f64 = 28.0;
const LAYERS_APART: f64 = 90.0;

/// A box of the drawing.
struct Box {
    label: String,
    /// The line below it.
    about: String,
    /// `file`, `list`, or the kind of a rule's recipe.
    kind: &'static str,
    /// The paths that it stands for.
    names: Vec<String>,
}

/// What is drawn: boxes, and which of them needs which.
struct Picture {
    boxes: Vec<Box>,
    /// From what is needed to what needs it.
    lines: BTreeSet<(usize, usize)>,
}

impl<'a> Drawn<'a> {
    /// The page. `project` is what it is called there.
    ///
    /// # Errors
    /// [`Code::Bug`]: the page's own template is wrong.
    pub(super) fn to_html(&self, project: &str) -> Result<String, Error> {
        let bug = |what: String| Error::new(Code::Bug, format!("the template of the graph's page: {what}"));
        let lines: Vec<_> = self.lines().into_iter().filter(|(from, to)| !self.is_of_partials(from, to)).collect();
        let file = |end: &End<'a>| if let End::File(path) = end { Some(*path) } else { None };
        let files: BTreeSet<&str> = lines.iter().filter_map(|(from, _)| file(from)).collect();
        let is_whole = self.tasks.len() + files.len() + self.lists.len() <= READABLE;
        let picture = if is_whole { self.whole(&files, &lines) } else { self.by_rules(&files, &lines) };
        let mut pages = Handlebars::new();
        pages.set_strict_mode(true);
        for (name, text) in [
            ("page", include_str!("page.hbs")),
            ("style", include_str!("page.css")),
            ("script", include_str!("page.js")),
        ] {
            pages.register_template_string(name, text).map_err(|e| bug(e.to_string()))?;
        }
        let mut page = picture.laid_out();
        page["project"] = project.into();
        page["genmake"] = env!("CARGO_PKG_VERSION").into();
        page["tasks"] = self.tasks.len().into();
        page["is_whole"] = is_whole.into();
        pages.render("page", &page).map_err(|e| bug(e.to_string()))
    }

    /// Whether a line is drawn only since what lies beside a recipe may be a partial of it: that is nearly everything, and says little.
    fn is_of_partials(&self, from: &End, to: &End) -> bool {
        [from, to].iter().any(|end| matches!(end, End::List(list) if self.lists[*list].is_of_partials))
    }

    /// Every task, and the files and lists that lines lead to.
    fn whole(&self, files: &BTreeSet<&'a str>, lines: &[(End<'a>, End<'a>)]) -> Picture {
        let name = self.names();
        let mut at = BTreeMap::new();
        let mut boxes = Vec::new();
        let mut put = |end: End<'a>, one: Box| {
            at.insert(name(&end), boxes.len());
            boxes.push(one);
        };
        for path in files {
            put(End::File(path), Box { label: (*path).to_owned(), ..Box::file(vec![(*path).to_owned()]) });
        }
        for (list, of) in self.lists.iter().enumerate().filter(|(_, list)| !list.is_of_partials) {
            let names: Vec<String> = of.files.iter().map(|path| (*path).to_owned()).collect();
            let about = format!("{} files", names.len());
            put(End::List(list), Box { label: of.label.clone(), about, kind: "list", names });
        }
        for (rule, (kind, nodes)) in self.rules() {
            for node in nodes {
                let names: Vec<String> = self.outputs(node).map(str::to_owned).collect();
                let about = format!("{}, {kind}", self.graph.manifest.rules[rule].name);
                put(End::Task(node.id), Box { label: names.join(", "), about, kind, names });
            }
        }
        let index = |end: &End<'a>| at.get(&name(end)).copied();
        let lines = lines.iter().filter_map(|(from, to)| Some((index(from)?, index(to)?))).collect();
        Picture { boxes, lines }
    }

    /// A box for each rule, and for each folder of files that no rule makes; lists are left out, and lead to what is in them.
    fn by_rules(&self, files: &BTreeSet<&'a str>, lines: &[(End<'a>, End<'a>)]) -> Picture {
        let mut boxes = Vec::new();
        let mut of_task = BTreeMap::new();
        for (rule, (kind, nodes)) in self.rules() {
            let names = nodes.iter().flat_map(|node| self.outputs(node)).map(str::to_owned).collect();
            let about = format!("{} {}, {kind}", nodes.len(), if nodes.len() == 1 { "task" } else { "tasks" });
            of_task.extend(nodes.iter().map(|node| (node.id, boxes.len())));
            boxes.push(Box { label: self.graph.manifest.rules[rule].name.clone(), about, kind, names });
        }
        let mut of_file = BTreeMap::new();
        for (folder, files) in folders(files, READABLE.saturating_sub(boxes.len()).max(READABLE / 4)) {
            let names: Vec<String> = files.iter().map(|path| (*path).to_owned()).collect();
            of_file.extend(files.iter().map(|path| (*path, boxes.len())));
            match &files[..] {
                [only] => boxes.push(Box { label: (*only).to_owned(), ..Box::file(names) }),
                _ => boxes.push(Box { label: folder, about: format!("{} files", files.len()), ..Box::file(names) }),
            }
        }
        let index = |end: &End<'a>| match end {
            End::File(path) => of_file.get(path).copied(),
            End::Task(task) => of_task.get(task).copied(),
            End::List(_) => None,
        };
        let mut members: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (from, to) in lines {
            if let (End::List(list), Some(from)) = (to, index(from)) {
                members.entry(*list).or_default().insert(from);
            }
        }
        let none = BTreeSet::new();
        let mut drawn = BTreeSet::new();
        for (from, to) in lines {
            let Some(to) = index(to) else { continue };
            match from {
                End::List(list) => drawn.extend(members.get(list).unwrap_or(&none).iter().map(|from| (*from, to))),
                from => drawn.extend(index(from).map(|from| (from, to))),
            }
        }
        // A rule may read what it makes itself, in another of its tasks.
        drawn.retain(|(from, to)| from != to);
        Picture { boxes, lines: drawn }
    }
}

impl Box {
    fn file(names: Vec<String>) -> Box {
        Box { label: String::new(), about: "file".to_owned(), kind: "file", names }
    }

    fn width(&self) -> f64 {
        let letters = self.label.chars().count().min(WIDEST).max(self.about.chars().count());
        letters as f64 * LETTER + 24.0
    }
}

/// Files by folders: as deep ones as make no more than `most`, or else those at the top.
fn folders<'a>(files: &BTreeSet<&'a str>, most: usize) -> BTreeMap<String, Vec<&'a str>> {
    let deepest = files.iter().map(|path| path.matches('/').count()).max().unwrap_or(0);
    let at = |depth: usize| {
        let mut folders: BTreeMap<String, Vec<&'a str>> = BTreeMap::new();
        for path in files {
            let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).take(depth).collect();
            let folder = ends.last().map_or("./", |end| &path[..=*end]);
            folders.entry(folder.to_owned()).or_default().push(path);
        }
        folders
    };
    let depths = (1..=deepest).rev().map(at);
    depths.into_iter().find(|folders| folders.len() <= most).unwrap_or_else(|| at(1))
}

impl Picture {
    /// Where everything lies, as the page's template takes it: from left to right, what is needed before what needs it.
    fn laid_out(&self) -> Value {
        // The layout goes from top to bottom, so width and height change places.
        let sizes: Vec<(u32, (f64, f64))> =
            self.boxes.iter().enumerate().map(|(at, one)| (at as u32, (HEIGHT, one.width()))).collect();
        let lines: Vec<(u32, u32)> = self.lines.iter().map(|(from, to)| (*from as u32, *to as u32)).collect();
        let config = Config {
            minimum_length: 1,
            vertex_spacing: BETWEEN,
            dummy_vertices: true,
            dummy_size: 1.0,
            ranking_type: RankingType::MinimizeEdgeLength,
            c_minimization: CrossingMinimization::Barycenter,
            transpose: false,
        };
        let mut places = vec![(0.0, 0.0); self.boxes.len()];
        let (mut right, mut bottom) = (0.0_f64, 0.0_f64);
        // What hangs together is drawn together, one below the other.
        for (part, ..) in rust_sugiyama::from_vertices_and_edges(&sizes, &lines, &config) {
            let mut columns: BTreeMap<i64, f64> = BTreeMap::new();
            for (at, (_, y)) in &part {
                let widest = columns.entry(y.round() as i64).or_default();
                *widest = widest.max(self.boxes[*at].width());
            }
            let mut left = 0.0;
            for width in columns.values_mut() {
                left += std::mem::replace(width, left) + LAYERS_APART;
            }
            let top = part.iter().map(|(_, (x, _))| *x).fold(f64::INFINITY, f64::min);
            let mut lowest = bottom;
            for (at, (x, y)) in &part {
                let place = (columns.get(&(y.round() as i64)).copied().unwrap_or_default(), bottom + x - top);
                right = right.max(place.0 + self.boxes[*at].width());
                lowest = lowest.max(place.1 + HEIGHT);
                places[*at] = place;
            }
            bottom = lowest + BETWEEN;
        }
        let boxes = self.boxes.iter().zip(&places).enumerate().map(|(at, (one, (x, y)))| {
            let near = |other: &dyn Fn(&(usize, usize)) -> Option<usize>| -> Vec<Value> {
                let others = self.lines.iter().filter_map(other);
                others.map(|at| json!({"at": at, "label": self.boxes[at].label})).collect()
            };
            json!({
                "at": at, "kind": one.kind, "label": short(&one.label), "title": one.label, "about": one.about,
                "x": round(*x), "y": round(*y), "width": round(one.width()), "height": HEIGHT,
                "names": one.names.iter().take(NAMED).collect::<Vec<_>>(),
                "left": one.names.len().saturating_sub(NAMED),
                "needs": near(&|(from, to)| (*to == at).then_some(*from)),
                "needed": near(&|(from, to)| (*from == at).then_some(*to)),
            })
        });
        let line = |(from, to): &(usize, usize)| {
            let (start, end) = (places[*from], places[*to]);
            let (x1, y1) = (start.0 + self.boxes[*from].width(), start.1 + HEIGHT / 2.0);
            let (x2, y2) = (end.0, end.1 + HEIGHT / 2.0);
            let bend = ((x2 - x1) / 2.0).abs().max(LAYERS_APART / 2.0);
            let [x1, y1, x2, y2, out, back] = [x1, y1, x2, y2, x1 + bend, x2 - bend].map(round);
            json!({"from": from, "to": to, "path": format!("M{x1} {y1}C{out} {y1} {back} {y2} {x2} {y2}")})
        };
        json!({
            "boxes": boxes.collect::<Vec<_>>(), "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "right": round(right + 4.0), "bottom": round(bottom.max(HEIGHT)),
        })
    }
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A label that its box has room for: the end of a path tells more than its beginning.
fn short(label: &str) -> String {
    match label.chars().count() {
        n if n > WIDEST => format!("…{}", label.chars().skip(n + 1 - WIDEST).collect::<String>()),
        _ => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_into_folders_as_deep_as_there_is_room_for() {
        let files = BTreeSet::from(["a/b/1", "a/b/2", "a/c/3", "d", "e/4"]);
        let names = |most| folders(&files, most).into_keys().collect::<Vec<_>>();
        assert_eq!(names(9), ["./", "a/b/", "a/c/", "e/"]);
        assert_eq!(names(3), ["./", "a/", "e/"]);
        assert_eq!(names(1), ["./", "a/", "e/"]);
        assert_eq!(folders(&BTreeSet::new(), 1).len(), 0);
    }

    #[test]
    fn nothing_lies_upon_anything_else_and_what_is_needed_lies_left() {
        let one = |label: &str| Box { label: label.to_owned(), ..Box::file(Vec::new()) };
        let boxes: Vec<Box> = (0..12).map(|n| one(&format!("{n}{}", "x".repeat(n * 3)))).collect();
        let lines = [(0, 4), (1, 4), (2, 4), (4, 5), (3, 5), (0, 5), (6, 7), (6, 8), (8, 9), (7, 9)].into();
        let laid = Picture { boxes, lines }.laid_out();
        let place = |at: usize| {
            let number = |name: &str| laid["boxes"][at][name].as_f64().unwrap();
            (number("x"), number("y"), number("width"), number("height"))
        };
        for a in 0..12 {
            for b in 0..a {
                let ((ax, ay, aw, ah), (bx, by, bw, bh)) = (place(a), place(b));
                assert!(ax + aw <= bx || bx + bw <= ax || ay + ah <= by || by + bh <= ay, "{a} {b}: {laid:#}");
            }
        }
        for line in laid["lines"].as_array().unwrap() {
            let [from, to] = ["from", "to"].map(|end| place(line[end].as_u64().unwrap() as usize));
            assert!(from.0 + from.2 < to.0, "{line}");
        }
    }
}
