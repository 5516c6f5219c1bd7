//! Aligned columns.

use super::paint::Paint;

/// Columns as wide as their widest cell. Those from `wide_from` on are for `-o wide` only.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    wide_from: usize,
}

impl Table {
    pub(crate) fn new(headers: &[&str]) -> Table {
        Table::with_wide(headers, &[])
    }

    /// A table with columns that only `-o wide` shows, behind the others.
    pub(crate) fn with_wide(headers: &[&str], wide: &[&str]) -> Table {
        let all = headers.iter().chain(wide).map(|header| (*header).to_owned()).collect();
        Table { rows: vec![all], wide_from: headers.len() }
    }

    /// A row; cells it does not have are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The first column, each name once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rows.iter().skip(1).filter_map(|row| row.first()).map(String::as_str).collect();
        names.dedup();
        names
    }

    /// All of it, each line ended.
    pub(crate) fn text(&self, no_headers: bool, wide: bool, paint: Paint) -> String {
        let shown = if wide { usize::MAX } else { self.wide_from };
        let columns = self.rows.iter().map(|row| row.len().min(shown)).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate().skip(usize::from(no_headers)) {
            let last = row.len().min(columns).saturating_sub(1);
            let cell = |(column, (cell, width)): (usize, (&String, &usize))| {
                let padded = if column == last { cell.clone() } else { format!("{cell:width$}") };
                if number == 0 { padded } else { paint.state(&padded) }
            };
            let line = row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            text.push_str(&if number == 0 { paint.title(line) } else { line.to_owned() });
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
        let mut table = Table::with_wide(&["NAME", "QUEUES"], &["ID"]);
        table.row(["orders", "8", "1"].map(str::to_owned));
        table.row(["orders", "9"].map(str::to_owned));
        assert_eq!(table.text(false, false, Paint::none()), "NAME    QUEUES\norders  8\norders  9\n");
        assert_eq!(table.text(true, true, Paint::none()), "orders  8       1\norders  9\n");
        assert_eq!(table.names(), ["orders"]);
    }

    #[test]
    fn a_body_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jé\n"), "a\\u{1b}[2Jé\\n");
    }
}
