//! Answers that come in pages.

use super::error::CliError;

/// Everything there is. `page` asks for the page of a token, the first of which is empty, and returns what is on it and the
/// token of the next.
pub(super) async fn all<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), CliError>,
) -> Result<Vec<T>, CliError> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (some, next) = page(token).await?;
        all.extend(some);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}
