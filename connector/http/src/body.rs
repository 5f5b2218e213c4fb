//! What a server answers, of bounded length.

use reqwest::Response;

/// Why an answer could not be read.
#[derive(Debug)]
pub enum Unread {
    /// It is longer than it may be.
    TooLong,
    /// It broke off.
    Broken(reqwest::Error),
}

/// The body of an answer.
///
/// # Errors
/// If it breaks off, or is longer than `most` bytes: whatever answers may have no end.
pub async fn bounded_body(response: &mut Response, most: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
