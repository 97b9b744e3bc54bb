//! Text tables. Nothing in a cell can control a terminal.

use std::io::IsTerminal;

use crate::runtime::printable;

/// The space between columns.
const GAP: &str = "   ";
/// No column is made narrower than this to fit a terminal.
const NARROWEST: usize = 12;

/// The width of the terminal, in characters; `None` if standard output is not a terminal. Tables are then not wrapped,
/// so that each row is one line for `grep`.
pub(super) fn terminal_width() -> Option<usize> {
    let is_terminal = std::io::stdout().is_terminal();
    terminal_size::terminal_size().filter(|_| is_terminal).map(|(width, _)| usize::from(width.0))
}

/// A text table. Each column is as wide as its widest cell; columns are three spaces apart.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    wrapped(&header, &rows.map(Vec::from).collect::<Vec<_>>(), None)
}

/// The same, with cells wrapped at words so that lines fit into this width. Cells that are missing are empty.
pub(super) fn wrapped(header: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut lines = vec![header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| printable(cell).into_owned()).collect()));
    let widest = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| length(cell)).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| widest(column).unwrap_or_default()).collect();
    let widths = width.map_or(widths.clone(), |width| fit(&widths, width));
    let mut text = String::new();
    for line in &lines {
        let empty = String::new();
        let cells: Vec<Vec<String>> =
            widths.iter().enumerate().map(|(n, width)| wrap(line.get(n).unwrap_or(&empty), *width)).collect();
        for part in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
            let piece = |(cell, width): (&Vec<String>, &usize)| {
                let piece = cell.get(part).map(String::as_str).unwrap_or_default();
                format!("{piece}{}", " ".repeat(width.saturating_sub(length(piece))))
            };
            let pieces: Vec<String> = cells.iter().zip(&widths).map(piece).collect();
            text.push_str(pieces.join(GAP).trim_end());
            text.push('\n');
        }
    }
    text
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Makes the widest columns narrower until all fit.
fn fit(widths: &[usize], total: usize) -> Vec<usize> {
    let available = total.saturating_sub(GAP.len() * widths.len().saturating_sub(1));
    let mut widest = widths.iter().copied().max().unwrap_or_default();
    let at_most = |widest: usize| widths.iter().map(|width| (*width).min(widest)).collect::<Vec<_>>();
    while widest > NARROWEST && at_most(widest).iter().sum::<usize>() > available {
        widest -= 1;
    }
    at_most(widest)
}

/// Breaks a text at spaces, and within words that are longer than a line. An empty text has one empty line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    if length(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        let current = lines.last_mut().expect("there is always a line");
        let used = length(current);
        if used == 0 && rest.len() <= width {
            current.push_str(word);
            continue;
        }
        if used + 1 + rest.len() <= width {
            current.push(' ');
            current.push_str(word);
            continue;
        }
        while !rest.is_empty() {
            let piece: String = rest.drain(..rest.len().min(width.max(1))).collect();
            lines.push(piece);
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_control_no_terminal() {
        let text = table(["A", "LONG"], [["wide cell".into(), "x".into()]].into_iter());
        assert_eq!(text, "A           LONG\nwide cell   x\n");
        let text = table(["A", "B"], [["\u{1b}[2J".into(), "\u{202e}".into()]].into_iter());
        assert_eq!(text, "A           B\n\\u{1b}[2J   \\u{202e}\n");
    }

    #[test]
    fn long_cells_are_wrapped_to_the_terminal() {
        let rows = || vec![vec!["CVE-1".to_owned(), "Upgrade openssl to 3.0.11: apt-get install openssl".to_owned()]];
        let wide = wrapped(&["ID", "How to Resolve"], &rows(), None);
        assert_eq!(wide.lines().count(), 2);
        let narrow = wrapped(&["ID", "How to Resolve"], &rows(), Some(30));
        assert_eq!(
            narrow,
            "ID      How to Resolve\n\
             CVE-1   Upgrade openssl to\n\
             \x20       3.0.11: apt-get\n\
             \x20       install openssl\n"
        );
        assert!(narrow.lines().all(|line| line.len() <= 30));
        let word = wrapped(&["A"], &[vec!["x".repeat(30)]], Some(14));
        assert_eq!(word, format!("A\n{}\n{}\n{}\n", "x".repeat(14), "x".repeat(14), "xx"));
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(fit(&[5, 100, 50], 80), [5, 34, 34]);
    }
}
