//! What a token endpoint's URL tells: whether others can listen, and what of it is shown.

use reqwest::Url;

/// Whether secrets and tokens would cross a network for everybody on it to read: no TLS, and another
/// machine.
pub fn is_in_the_clear(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && !is_here
}

/// The URL without its query, which may be a secret.
pub(crate) fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_machine_without_tls_is_in_the_clear() {
        for (url, in_the_clear) in [
            ("https://login.example.com/token", false),
            ("http://login.example.com/token", true),
            ("HTTP://login.example.com/token", true),
            ("http://10.0.0.1/token", true),
            ("http://localhost:8080/token", false),
            ("http://127.0.0.1:8080/token", false),
            ("http://[::1]:8080/token", false),
            ("no url", false),
        ] {
            assert_eq!(is_in_the_clear(url), in_the_clear, "{url}");
        }
    }

    #[test]
    fn a_query_is_not_shown() {
        assert_eq!(
            shown("https://host/token?key=hunter2"),
            "https://host/token"
        );
        assert_eq!(shown("https://host/token"), "https://host/token");
    }
}
