//! How a command shows what it found.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde_json::Value;

/// The shape of what goes to stdout.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Table,
    /// One document with stable keys; one per line where results stream
    Json,
}

/// Flags about the output, before or after the noun. `apogee dev` takes no notice of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// Shape of what a command prints
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Leaves the first line of tables out
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
}

impl Output {
    /// A finished result: the document, or the same as a table.
    pub(crate) fn show(&self, document: &Value, table: &Table) -> io::Result<()> {
        match self.format {
            Format::Json => line(&document.to_string()),
            Format::Table => line(table.text(self.no_headers).trim_end()),
        }
    }

    /// A result without data: the document, or one sentence.
    pub(crate) fn tell(&self, document: &Value, sentence: &str) -> io::Result<()> {
        match self.format {
            Format::Json => line(&document.to_string()),
            Format::Table => line(sentence),
        }
    }
}

/// Writes one line to stdout and makes sure that it is out.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headers: &[&str]) -> Table {
        Table { rows: vec![headers.iter().map(|header| (*header).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn text(&self, no_headers: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in self.rows.iter().skip(usize::from(no_headers)) {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Text of others, made harmless for a terminal: control characters are escaped.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_ends() {
        let mut table = Table::new(&["NAME", "QUEUES"]);
        table.row(["orders".to_owned(), "8".to_owned()]);
        assert_eq!(table.text(false), "NAME    QUEUES\norders  8\n");
        assert_eq!(table.text(true), "orders  8\n");
    }

    #[test]
    fn a_body_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jé\n"), "a\\u{1b}[2Jé\\n");
    }
}
