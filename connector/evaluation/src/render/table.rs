//! A table of strings, as aligned text or as HTML.

use super::harmless::{harmless, harmless_line};

/// First column left, others right.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            head: head.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// Each cell becomes one line, whatever its text holds.
    pub fn row(&mut self, cells: Vec<String>) {
        let cells = cells.iter().map(|cell| harmless_line(cell));
        self.rows.push(cells.collect());
    }

    /// Aligned columns, two spaces apart.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            std::iter::once(&self.head)
                .chain(&self.rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// An HTML table; every cell is escaped.
    pub fn html(&self) -> String {
        let cells = |row: &[String], tag: &str, scope: &str| -> String {
            row.iter()
                .map(|cell| format!("<{tag}{scope}>{}</{tag}>", escape(cell)))
                .collect()
        };
        let rows: String = self
            .rows
            .iter()
            .map(|row| format!("<tr>{}</tr>\n", cells(row, "td", "")))
            .collect();
        format!(
            "<div class=\"wide\"><table><thead><tr>{}</tr></thead><tbody>\n{rows}</tbody></table></div>\n",
            cells(&self.head, "th", " scope=\"col\"")
        )
    }
}

/// Text that is safe in HTML, in attributes too, and as harmless as on a terminal.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in harmless(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_of_windows_is_one_in_html_too() {
        assert_eq!(escape("<a>\r\n'b'"), "&lt;a&gt;\n&#39;b&#39;");
        assert_eq!(escape("a\rb\u{1b}"), "a\u{fffd}b\u{fffd}");
    }
}
