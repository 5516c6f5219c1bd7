//! The documentation of it all: `tests/compat/README.md`, made from the records and the list of differences.

use std::fmt::Write;

use super::differences::Difference;
use super::transcript::Transcript;

const HEAD: &str = "\
# What agrees with Apache RocketMQ, and what does not

Scenarios in `tests/src/compat/scenarios` are run against the bare gRPC contract of Apache RocketMQ 5.5.0 and of this
system. Each step leaves a line: the call, its code, and what could be seen. `reference/` holds the transcripts of Apache
RocketMQ, which `make compat-reference` records; `make test` runs ours and compares. Every difference is in
`differences.toml` with its reason; one that is not listed fails the test, and so does one that is gone.

This page is made from those files (`make compat-table`), and the test compares it, too.
";

/// The page.
pub fn render(records: &[Transcript], listed: &[Difference]) -> String {
    let mut page = HEAD.to_owned();
    let steps: usize = records.iter().map(|record| record.steps.len()).sum();
    let (scenarios, differences) = (records.len(), listed.len());
    let agreed = steps - differences;
    line(
        &mut page,
        format_args!("\n{scenarios} scenarios, {steps} steps: {agreed} agree, {differences} are listed.\n"),
    );
    line(&mut page, format_args!("| scenario | steps of the reference | ours that agree | verdict |"));
    line(&mut page, format_args!("| --- | --- | --- | --- |"));
    for Transcript { scenario, steps } in records {
        let differing = listed.iter().filter(|difference| difference.scenario == *scenario).count();
        let (all, same) = (steps.len(), steps.len() - differing);
        let verdict = if differing == 0 { "agreed".to_owned() } else { format!("{differing} listed") };
        line(&mut page, format_args!("| [{scenario}](reference/{scenario}.txt) | {all} | {same} | {verdict} |"));
    }
    line(&mut page, format_args!("\n## What is different on purpose\n"));
    line(&mut page, format_args!("| scenario, step | call | Apache RocketMQ | ApogeeMQ | reason |"));
    line(&mut page, format_args!("| --- | --- | --- | --- | --- |"));
    for difference in listed {
        let [call, reference, ours, reason] =
            [&difference.call, &difference.reference, &difference.ours, &difference.reason].map(|text| cell(text));
        let Difference { scenario, step, .. } = difference;
        line(&mut page, format_args!("| {scenario}, {step} | {call} | {reference} | {ours} | {reason} |"));
    }
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("memory takes all text");
}

/// Text that stays in its column.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
