//! Which URLs can be a token endpoint, and what of them is shown.

use reqwest::Url;

/// Why this is no URL of a token endpoint, if it is none. The URL is not repeated.
pub fn url_fault(url: &str) -> Option<String> {
    let Some(rest) = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
    else {
        return Some("the url must begin with https://".to_owned());
    };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Some("the url names no host".to_owned());
    }
    if authority.contains('@') {
        // It would be printed in errors.
        return Some("the url holds a user or a password".to_owned());
    }
    if rest.contains('#') {
        return Some("the url holds a fragment, which no endpoint is sent".to_owned());
    }
    Url::parse(url)
        .err()
        .map(|error| format!("the url cannot be parsed: {error}"))
}

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
    fn an_endpoint_has_a_scheme_a_host_and_perhaps_a_port_a_path_and_a_query() {
        for url in [
            "https://login.example.com/tenant/oauth2/v2.0/token",
            "https://login.example.com:8443/token?p=policy",
            "http://keycloak.identity.svc:8080/realms/kafka/protocol/openid-connect/token",
            "http://[::1]:8080/token",
        ] {
            assert_eq!(url_fault(url), None, "{url}");
        }
    }

    #[test]
    fn another_url_is_refused_by_its_cause_and_not_repeated() {
        for (url, cause) in [
            ("login.example.com/hunter2", "https://"),
            ("ftp://host/hunter2", "https://"),
            ("", "https://"),
            ("https://", "no host"),
            ("https:///hunter2", "no host"),
            ("https://ada:hunter2@host/token", "user or a password"),
            ("https://host/token#hunter2", "fragment"),
            ("https://host:99999/hunter2", "port"),
        ] {
            let fault = url_fault(url).expect(url);
            assert!(fault.contains(cause), "{url}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }

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
