//! Why a client cannot be given a URL. The URL is never repeated: what is wrong with it may be that it
//! holds a secret.

use reqwest::Url;

/// Why this is no URL of a server that paths can be added to, if it is none; `instead` says where
/// credentials belong.
pub fn base_url_fault(url: &str, instead: &str) -> Option<String> {
    fault(
        url,
        "http:// or https://",
        &format!(": {instead}"),
        |rest| {
            rest.contains(['?', '#']).then_some(
                "a query or a fragment, of which the path of each request would become a part",
            )
        },
    )
}

/// Why this is no URL of an endpoint that secrets are sent to as it is, if it is none.
pub fn endpoint_url_fault(url: &str) -> Option<String> {
    fault(url, "https://", "", |rest| {
        rest.contains('#')
            .then_some("a fragment, which no endpoint is sent")
    })
}

/// `surplus` names what a URL has too much behind its scheme.
fn fault(
    url: &str,
    schemes: &str,
    instead: &str,
    surplus: fn(&str) -> Option<&'static str>,
) -> Option<String> {
    let Some(rest) = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
    else {
        return Some(format!("the url must begin with {schemes}"));
    };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Some("the url names no host".to_owned());
    }
    // It would be printed in errors.
    if authority.contains('@') {
        return Some(format!("the url holds a user or a password{instead}"));
    }
    if let Some(surplus) = surplus(rest) {
        return Some(format!("the url holds {surplus}"));
    }
    Url::parse(url)
        .err()
        .map(|error| format!("the url cannot be parsed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        for url in [
            "http://vllm:8000/v1",
            "https://vllm",
            "http://127.0.0.1:4318/",
            "https://[::1]:8000/a@b",
        ] {
            assert_eq!(base_url_fault(url, "use HF_TOKEN"), None, "{url}");
        }
    }

    #[test]
    fn what_no_path_can_be_added_to_is_refused_by_its_cause_and_not_repeated() {
        for (url, cause) in [
            ("vllm:8000/hunter2", "http://"),
            ("http://", "no host"),
            ("http:///hunter2", "no host"),
            ("http://?hunter2", "no host"),
            ("http://ada:hunter2@vllm/v1", "user or a password"),
            ("http://hunter2@vllm", "user or a password"),
            ("http://vllm/v1?key=hunter2", "query"),
            ("http://vllm?key=hunter2@x", "query"),
            ("http://vllm/v1#hunter2", "fragment"),
            ("http://vllm:99999/hunter2", "port"),
            ("http://vllm:hunter2", "port"),
            ("http://vl lm/hunter2", "domain"),
        ] {
            let fault = base_url_fault(url, "use HF_TOKEN").expect(url);
            assert!(fault.contains(cause), "{url}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        let fault = base_url_fault("http://ada:hunter2@host", "use HF_TOKEN").expect("a user");
        assert!(fault.ends_with(": use HF_TOKEN"), "{fault}");
    }

    #[test]
    fn an_endpoint_has_a_scheme_a_host_and_perhaps_a_port_a_path_and_a_query() {
        for url in [
            "https://login.example.com/tenant/oauth2/v2.0/token",
            "https://login.example.com:8443/token?p=policy",
            "http://keycloak.identity.svc:8080/realms/kafka/protocol/openid-connect/token",
            "http://[::1]:8080/token",
        ] {
            assert_eq!(endpoint_url_fault(url), None, "{url}");
        }
    }

    #[test]
    fn another_endpoint_is_refused_by_its_cause_and_not_repeated() {
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
            let fault = endpoint_url_fault(url).expect(url);
            assert!(fault.contains(cause), "{url}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
