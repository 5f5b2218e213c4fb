//! Which URLs paths can be added to, and which one a redirect leads to.

use aligner_http::base_url_fault;
use reqwest::Url;

/// Most characters of a URL that a server gives.
const MAX_TARGET_CHARS: usize = 300;

/// Why this is no base URL of a completions server, if it is none. The URL is not repeated.
pub fn url_fault(url: &str) -> Option<String> {
    base_url_fault(url, "set api_key or api_key_file").or_else(|| {
        let path = url.trim_end_matches('/');
        ["/chat/completions", "/completions"]
            .into_iter()
            .find(|end| path.ends_with(end))
            .map(|end| {
                format!("it ends with {end}, where requests add that themselves: leave it out")
            })
    })
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
    fn the_address_of_completions_is_no_base_url_and_is_not_repeated() {
        for (url, said) in [
            (
                "http://vllm:8000/v1/completions",
                "it ends with /completions,",
            ),
            (
                "http://vllm:8000/v1/chat/completions/",
                "it ends with /chat/completions,",
            ),
            (
                "https://svc:hunter2@vllm:8000/v1/completions",
                "a user or a password",
            ),
            ("vllm:8000/v1/completions", "http:// or https://"),
        ] {
            let fault = url_fault(url).expect("a fault");
            assert!(fault.contains(said), "{fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        assert_eq!(url_fault("http://vllm:8000/v1"), None);
    }

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
    fn whoever_writes_a_key_into_the_url_is_told_where_it_belongs() {
        let fault = url_fault("http://ada:hunter2@vllm/v1").expect("a user");
        assert!(fault.ends_with(": set api_key or api_key_file"), "{fault}");
    }
}
