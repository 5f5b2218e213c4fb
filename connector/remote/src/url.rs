//! Which URLs paths can be added to, and which one a redirect leads to.

use reqwest::Url;

/// Most characters of a URL that a server gives.
const MAX_TARGET_CHARS: usize = 300;

/// Why this is no base URL of a completions server, if it is none. The URL is not repeated.
pub fn url_fault(url: &str) -> Option<String> {
    base_url_fault(url, "set api_key or api_key_file")
}

/// Why this is no base URL of any server, if it is none; `instead` says where credentials belong.
/// The URL is not repeated.
pub fn base_url_fault(url: &str, instead: &str) -> Option<String> {
    let Some(rest) = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
    else {
        return Some("the url must begin with http:// or https://".to_owned());
    };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Some("the url names no host".to_owned());
    }
    // It would be printed in errors.
    if authority.contains('@') {
        return Some(format!("the url holds a user or a password: {instead}"));
    }
    if rest.contains(['?', '#']) {
        return Some(
            "the url holds a query or a fragment, of which the path of each request would become \
             a part"
                .to_owned(),
        );
    }
    Url::parse(url)
        .err()
        .map(|error| format!("the url cannot be parsed: {error}"))
}

/// The base URL that a redirect of one of our requests leads to, if it is one of a server.
///
/// Without user, password, query and fragment: a login's are secrets, or no use without them.
pub(crate) fn redirect_target(asked: &Url, location: &str) -> Option<String> {
    let mut target = asked.join(location).ok()?;
    if !matches!(target.scheme(), "http" | "https") {
        return None;
    }
    target.set_username("").ok()?;
    target.set_password(None).ok()?;
    target.set_query(None);
    target.set_fragment(None);
    let target = target.as_str();
    let base = ["/completions", "/models"]
        .iter()
        .find_map(|path| target.strip_suffix(path))
        .unwrap_or(target);
    Some(base.chars().take(MAX_TARGET_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_a_base_url_without_what_may_be_secret() {
        let asked = Url::parse("http://vllm:8000/v1/completions").expect("a URL");
        for (location, base) in [
            ("https://new/v2/completions", Some("https://new/v2")),
            (
                "https://new/v1/models?token=hunter2",
                Some("https://new/v1"),
            ),
            (
                "/login?next=hunter2#hunter2",
                Some("http://vllm:8000/login"),
            ),
            ("//ada:hunter2@new/v1/completions", Some("http://new/v1")),
            ("chat", Some("http://vllm:8000/v1/chat")),
            ("ftp://new/v1", None),
            ("javascript:hunter2", None),
            ("http://:99999/hunter2", None),
        ] {
            assert_eq!(
                redirect_target(&asked, location).as_deref(),
                base,
                "{location}"
            );
        }
        let long = redirect_target(&asked, &"x".repeat(10_000)).expect("a path");
        assert_eq!(long.len(), 300);
    }

    #[test]
    fn a_base_url_has_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        for url in [
            "http://vllm:8000/v1",
            "https://vllm",
            "http://127.0.0.1:4318/",
            "https://[::1]:8000/a@b",
        ] {
            assert_eq!(url_fault(url), None, "{url}");
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
            let fault = url_fault(url).expect(url);
            assert!(fault.contains(cause), "{url}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        let fault = base_url_fault("http://ada:hunter2@host", "use HF_TOKEN").expect("a user");
        assert!(fault.ends_with(": use HF_TOKEN"), "{fault}");
    }
}
