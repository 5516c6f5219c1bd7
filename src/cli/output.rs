//! How a command shows what it found: every result is one document, and a table of the same for people.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

use super::paint::{Paint, When};
pub(crate) use super::table::{Table, plain};

/// The shape of what goes to stdout.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Table,
    /// The same with more columns
    Wide,
    /// One document with stable keys; one per line where results stream
    Json,
    /// One document per line; a list is one line per item
    Jsonl,
    /// One document
    Yaml,
    /// Names only, one per line
    Name,
}

/// Flags about the output, before or after the noun. Roles take no notice of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// Shape of what a command prints
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Leaves the first line of tables out
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Prints data and errors only: no sentence that something was done, no hint
    #[arg(short = 'q', long, global = true)]
    pub(crate) quiet: bool,
    /// Colours; auto means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    pub(crate) color: When,
}

impl Output {
    /// A finished result: the document, or the same as a table. Names are the first column of the table.
    pub(crate) fn show(&self, document: &Value, table: &Table) -> io::Result<()> {
        self.show_all(document, &[("", table)])
    }

    /// A result of several tables, each with its title. Names are the first column of the first one.
    pub(crate) fn show_all(&self, document: &Value, tables: &[(&str, &Table)]) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => {
                let (wide, paint) = (self.format == Format::Wide, self.paint());
                let text = |(title, table): &(&str, &Table)| match *title {
                    "" => table.text(self.no_headers, wide, paint),
                    title => format!("{}\n{}", paint.title(title), table.text(self.no_headers, wide, paint)),
                };
                line(tables.iter().map(text).collect::<Vec<_>>().join("\n").trim_end())
            }
            Format::Name => match tables.first().map(|(_, table)| table.names()).unwrap_or_default() {
                names if names.is_empty() => Ok(()),
                names => line(&names.join("\n")),
            },
            Format::Json | Format::Jsonl | Format::Yaml => self.document(document),
        }
    }

    /// A result without data: the document, or one sentence.
    pub(crate) fn tell(&self, document: &Value, sentence: &str) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide if self.quiet => Ok(()),
            Format::Table | Format::Wide => line(sentence),
            Format::Name => line(name(document).unwrap_or(sentence)),
            Format::Json | Format::Jsonl | Format::Yaml => self.document(document),
        }
    }

    /// One of many results, as it comes. `false` when it is for people, who want a row of a table.
    pub(crate) fn item(&self, document: &Value) -> io::Result<bool> {
        match self.format {
            Format::Table | Format::Wide => return Ok(false),
            Format::Name => line(name(document).unwrap_or("-"))?,
            Format::Json | Format::Jsonl => line(&document.to_string())?,
            Format::Yaml => line(&format!("---\n{}", yaml(document)?))?,
        }
        Ok(true)
    }

    /// Whether errors are one document of JSON.
    pub(crate) fn errors_are_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    /// Colours for stdout.
    fn paint(&self) -> Paint {
        Paint::new(self.color, io::stdout().is_terminal())
    }

    /// Colours for stderr.
    pub(crate) fn paint_errors(&self) -> Paint {
        Paint::new(self.color, io::stderr().is_terminal())
    }

    fn document(&self, document: &Value) -> io::Result<()> {
        match (self.format, only_list(document)) {
            (Format::Yaml, _) => line(yaml(document)?.trim_end()),
            (Format::Jsonl, Some([])) => Ok(()),
            (Format::Jsonl, Some(items)) => line(&items.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")),
            _ => line(&document.to_string()),
        }
    }
}

/// Writes one line to stdout and makes sure that it is out.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// A hint on stderr.
pub(crate) fn hint(text: &str) {
    let _nobody_listens = writeln!(io::stderr().lock(), "hint: {text}");
}

fn yaml(document: &Value) -> io::Result<String> {
    serde_saphyr::to_string(document).map_err(io::Error::other)
}

/// The items of a document that is nothing but a list.
fn only_list(document: &Value) -> Option<&[Value]> {
    let object = document.as_object().filter(|object| object.len() == 1)?;
    object.values().next()?.as_array().map(Vec::as_slice)
}

/// What a document is about.
fn name(document: &Value) -> Option<&str> {
    ["name", "message_id", "deleted"].iter().find_map(|key| document[key].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_that_is_one_list_is_told_apart() {
        assert_eq!(only_list(&json!({ "topics": [1, 2] })), Some(&[json!(1), json!(2)][..]));
        assert_eq!(only_list(&json!({ "topics": [1], "more": 1 })), None);
        assert_eq!(only_list(&json!({ "name": "t" })), None);
    }

    #[test]
    fn texts_that_look_like_something_else_stay_texts_in_yaml() {
        let document = json!({ "texts": ["yes", "1", "a: b", "- x", "", "null", "~", "line\nbreak", "#", "1e3", "é"] });
        let text = yaml(&document).unwrap();
        for plain in ["yes", "1", "a: b", "null", "1e3"] {
            let quoted = [format!("- \"{plain}\"\n"), format!("- '{plain}'\n")];
            assert!(quoted.iter().any(|quoted| text.contains(quoted)), "{plain} in {text}");
        }
        let numbers = yaml(&json!({ "number": 1, "truth": true, "none": null, "list": [], "object": {} })).unwrap();
        assert!(numbers.contains("number: 1\n") && numbers.contains("truth: true\n"), "{numbers}");
    }
}
