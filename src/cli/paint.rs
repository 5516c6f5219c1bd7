//! Colours, where they are seen and wanted.

use clap::ValueEnum;

/// When to use colours.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// Colours or none, for one stream.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Paint(bool);

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

impl Paint {
    /// Source: no-color.org (NO_COLOR counts when it is set and not empty).
    pub(crate) fn new(when: When, terminal: bool) -> Paint {
        let unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(match when {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !unwanted(),
        })
    }

    pub(crate) fn none() -> Paint {
        Paint(false)
    }

    pub(crate) fn title(self, text: &str) -> String {
        self.with(BOLD, text)
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.with(RED, text)
    }

    /// A cell of a table: one that names a state stands out.
    pub(crate) fn state(self, cell: &str) -> String {
        match cell.trim_end() {
            "alive" | "healthy" => self.with(GREEN, cell),
            "draining" | "drained" => self.with(YELLOW, cell),
            "suspect" | "unhealthy" => self.with(RED, cell),
            _ => cell.to_owned(),
        }
    }

    fn with(self, colour: &str, text: &str) -> String {
        if self.0 { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_only_where_they_are_wanted() {
        assert_eq!(Paint::new(When::Never, true).title("A"), "A");
        assert_eq!(Paint::new(When::Auto, false).error("A"), "A");
        let always = Paint::new(When::Always, false);
        assert_eq!(always.title("A"), "\u{1b}[1mA\u{1b}[0m");
        assert_eq!(always.state("alive   "), "\u{1b}[32malive   \u{1b}[0m");
        assert_eq!(always.state("alive-again"), "alive-again");
    }
}
