//! Files that are still packed: data is often kept as `.jsonl.gz`, and a parser would only say at
//! which byte it is no text.

/// Whether a file that begins so is gzip (RFC 1952, section 2.3.1).
pub fn is_gzip(beginning: &[u8]) -> bool {
    beginning.starts_with(&[0x1f, 0x8b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_triples;

    #[test]
    fn a_packed_file_is_told_with_the_way_to_unpack_it() {
        let error = parse_triples(b"\x1f\x8b\x08\x00", "log.gz").expect_err("packed");
        assert_eq!(
            error.to_string(),
            "log.gz: this looks like gzip: unpack it first, with `zcat log.gz > FILE`"
        );
        assert!(!is_gzip(b"\x1f"));
        assert!(!is_gzip(b"{}"));
    }
}
