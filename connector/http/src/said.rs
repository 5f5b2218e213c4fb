//! What a server says of its answer, made fit for a log and a header.

/// Most characters of it: servers explain at length, and add ids and times of their own.
const MOST_CHARACTERS: usize = 300;

/// The beginning of what a server said. Control characters, by which it could begin a line of its own in
/// a log, are spaces.
pub fn shortened(said: &str) -> String {
    said.chars()
        .take(MOST_CHARACTERS)
        .map(|sign| if sign.is_control() { ' ' } else { sign })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_cut_and_stays_on_its_line() {
        let said = shortened("no\n{\"level\":\"ERROR\"}\u{1b}[2J");
        assert_eq!(said, "no {\"level\":\"ERROR\"} [2J");
        assert_eq!(shortened(&"é".repeat(400)), "é".repeat(MOST_CHARACTERS));
    }
}
