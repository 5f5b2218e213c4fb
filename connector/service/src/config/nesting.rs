//! How deep a YAML file goes. What reads it takes a time that grows much faster than its levels, so that
//! some thousands of them are seconds or minutes; no key of ours lies deeper than in the third.

/// Most levels of a file, or of a variable's name.
pub(super) const MOST_LEVELS: usize = 16;

/// How many levels there are at most, by the columns where lines begin and by brackets where values do.
/// Lines of a text count as others do.
pub(super) fn levels(yaml: &str) -> usize {
    let mut columns: Vec<usize> = Vec::new();
    let mut brackets: usize = 0;
    let mut most = 0;
    for line in yaml.lines() {
        let mut rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        // Within brackets columns mean nothing.
        if brackets == 0 {
            loop {
                let column = line.len() - rest.len();
                while columns.last().is_some_and(|open| *open >= column) {
                    columns.pop();
                }
                columns.push(column);
                // An item may begin another level on its own line.
                match rest.strip_prefix("- ").or_else(|| rest.strip_prefix("? ")) {
                    Some(item) => rest = item.trim_start(),
                    None => break,
                }
            }
        }
        most = most.max(columns.len() + within_brackets(rest, &mut brackets));
    }
    most
}

/// How many brackets are open at most on a line, where `open` are so before it, and then after it.
fn within_brackets(line: &str, open: &mut usize) -> usize {
    let mut most = *open;
    let mut quote = None;
    let mut before = ' ';
    // The last that is no white space.
    let mut sign = None;
    for c in line.chars() {
        // Elsewhere brackets and quotes are part of a text.
        let begins = match sign {
            None | Some(':') => true,
            Some('[' | '{' | ',') => *open > 0,
            Some(_) => false,
        };
        match (quote, c) {
            (Some(quoted), _) if quoted == c => quote = None,
            (Some(_), _) => {}
            (None, '#') if before.is_whitespace() => break,
            (None, '"' | '\'') if begins => quote = Some(c),
            (None, '[' | '{') if begins || *open > 0 => {
                *open += 1;
                most = most.max(*open);
            }
            (None, ']' | '}') => *open = open.saturating_sub(1),
            _ => {}
        }
        before = c;
        if !c.is_whitespace() {
            sign = Some(c);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_by_columns_items_and_brackets() {
        for (yaml, expected) in [
            ("", 0),
            ("# {{{\n\n", 0),
            ("a: 1\nb: 2\n", 1),
            ("a:\n  b:\n    c: 1\n  d: 2\ne: 3\n", 3),
            ("a: {b: {c: [1, 2]}}\nd: {}\n", 4),
            ("- - - a\n", 4),
            ("a:\n  - b: 1\n    c: 2\n  - b: 3\n", 3),
            ("{\n  \"a\": {\n    \"b\": [1]\n  }\n}\n", 4),
        ] {
            assert_eq!(levels(yaml), expected, "{yaml}");
        }
        let deep = "{\"a\":".repeat(1_000);
        assert_eq!(levels(&deep), 1_001);
    }

    #[test]
    fn brackets_within_texts_and_comments_are_none() {
        let texts = "a: 'x[ [ ['\nb: \"[[[\"\nc: x[[[\nd: 1 # [ [ [\ne: it's [\n".repeat(30);
        assert_eq!(levels(&texts), 1);
    }

    #[test]
    fn every_example_lies_far_below_the_most() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
        for entry in std::fs::read_dir(folder)
            .expect("the folder is there")
            .flatten()
        {
            let text = std::fs::read_to_string(entry.path()).expect("readable");
            let levels = levels(&text);
            assert!(levels <= MOST_LEVELS / 2, "{entry:?} has {levels}");
        }
    }
}
