//! What a server owes other servers, row by row of the work list's rows of the first version, each with the tests that hold it. A row stands here by its section
//! and the words that name it; its tests say in their comments which row they are about.
//! Source of the sections: <https://spec.matrix.org/v1.19/server-server-api/>, as the work list orders it.

use std::collections::BTreeMap;

use super::named;

mod endpoints;
mod events;
mod taking_part;
mod wanted;
mod wire;

/// One row.
struct Row {
    section: &'static str,
    words: &'static str,
    /// The tests that hold it.
    tests: &'static [&'static str],
    /// What of it does not hold, and why.
    open: Option<&'static str>,
}

const fn row(section: &'static str, words: &'static str, tests: &'static [&'static str]) -> Row {
    Row { section, words, tests, open: None }
}

impl Row {
    const fn but(self, reason: &'static str) -> Self {
        Self { open: Some(reason), ..self }
    }
}

/// Sections and how many rows of the first version each has.
const SECTIONS: &[(&str, usize)] = &[
    ("2", 7),
    ("3", 8),
    ("4", 9),
    ("5", 9),
    ("6", 7),
    ("7", 2),
    ("8", 12),
    ("9.1", 7),
    ("9.2", 5),
    ("9.3", 3),
    ("9.4", 2),
    ("9.5", 2),
    ("10", 3),
    ("11", 17),
    ("12", 1),
    ("13", 1),
    ("14", 7),
    ("15", 9),
    ("16", 8),
    ("17", 7),
    ("18", 4),
    ("19", 1),
];

fn rows() -> impl Iterator<Item = &'static Row> {
    [wire::ROWS, endpoints::ROWS, events::ROWS, taking_part::ROWS].into_iter().flatten()
}

/// What is wrong with the table.
fn complaints<'a>(rows: impl Iterator<Item = &'a Row>, sections: &[(&str, usize)]) -> Vec<String> {
    let (mut complaints, mut counted) = (Vec::new(), BTreeMap::<&str, usize>::new());
    let known = named::tests();
    for Row { section, words, tests, open } in rows {
        let says = |comment: &str| [' ', ':'].iter().any(|end| comment.contains(&format!("S2S {section}{end}")));
        *counted.entry(section).or_default() += 1;
        let of_row = |complaint: &str| format!("{section} {words}: {complaint}");
        if tests.is_empty() && open.is_none() {
            complaints.push(of_row("neither a test nor a reason why there is none"));
        }
        complaints.extend(named::complaints(&known, *tests, says).iter().map(|complaint| of_row(complaint)));
    }
    let sections: BTreeMap<&str, usize> = sections.iter().copied().collect();
    if counted != sections {
        complaints.push(format!("rows by section: {counted:?}, and there are {sections:?}"));
    }
    complaints
}

#[test]
fn every_row_has_a_test_that_exists() {
    let complaints = complaints(rows(), SECTIONS);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_row_that_is_wanted_soon_has_a_test_that_exists() {
    let known = named::tests();
    let complaints = |row: &Row| match (row.tests, row.open) {
        ([], None) => vec![format!("{} {}: neither a test nor a reason why there is none", row.section, row.words)],
        (tests, _) => named::complaints(&known, tests, |_| true),
    };
    let complaints: Vec<String> = wanted::ROWS.iter().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Says that it is about S2S 2 alone.
#[test]
fn a_row_without_a_test_is_noticed() {
    const EXISTS: &[&str] = &["it::federation::checklist::a_row_without_a_test_is_noticed"];
    let judged = |row: Row| complaints([row].iter(), &[("2", 1)]);
    assert!(judged(row("2", "fine", EXISTS)).is_empty());
    assert!(judged(row("2", "told", &[]).but("it does not hold")).is_empty());
    assert_eq!(judged(row("2", "nothing", &[])).len(), 1);
    assert_eq!(judged(row("2", "gone", &["it::federation::checklist::gone"])).len(), 1);
    // Another section than is counted, and than the test says.
    assert_eq!(judged(row("3", "elsewhere", EXISTS)).len(), 2);
}
