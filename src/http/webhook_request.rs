//! How a webhook's requests look, as its owner says it: format, added headers, authorization, signatures.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::domain::{AddedHeader, Authorization, InvalidAuthorization, MAX_HEADER_BYTES, MAX_HEADERS, Secret};

/// The format of a delivery's body.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = Format)]
#[expect(dead_code, reason = "the domain's formats as the document shows them")]
pub(super) enum FormatName {
    /// The envelope of Standard Webhooks.
    Standard,
    /// A `CloudEvents` 1.0 event in structured JSON.
    CloudEvents,
    /// The object that Spaces sent, as it was received.
    Raw,
}

/// How the bridge proves itself to a receiver.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = AuthorizationKind)]
#[expect(dead_code, reason = "the domain's kinds as the document shows them")]
pub(super) enum AuthorizationName {
    /// A user name and a password.
    Basic,
    /// A token.
    Bearer,
}

/// What deliveries are signed with.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = Signing)]
#[expect(dead_code, reason = "the domain's kinds as the document shows them")]
pub(super) enum SigningName {
    /// HMAC-SHA-256 with a shared secret, `v1`.
    Hmac,
    /// ed25519 with a public key, `v1a`.
    Ed25519,
}

/// How the bridge proves itself to the receiver: the `Authorization` header of every delivery. Stored sealed and never shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Authorization)]
pub(super) enum AuthorizationBody {
    /// HTTP Basic authentication.
    Basic(BasicBody),
    /// A bearer token.
    #[schema(value_type = String)]
    Bearer(Secret),
}

/// A user name and a password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = BasicAuthorization)]
pub(super) struct BasicBody {
    /// The user name, without colons.
    #[schema(value_type = String, min_length = 1, max_length = 512, example = "bridge")]
    username: Secret,
    /// The password.
    #[schema(value_type = String, max_length = 512)]
    password: Secret,
}

impl AuthorizationBody {
    pub(super) fn checked(self) -> Result<Authorization, ApiError> {
        let authorization = match &self {
            Self::Basic(basic) => Authorization::basic(&basic.username, &basic.password),
            Self::Bearer(token) => Authorization::bearer(token),
        };
        authorization.map_err(|error| {
            let pointer = match error {
                InvalidAuthorization::Username => "/authorization/basic/username",
                InvalidAuthorization::Password => "/authorization/basic/password",
                InvalidAuthorization::Bearer => "/authorization/bearer",
            };
            ApiError::field(pointer, error.to_string())
        })
    }
}

/// The headers to add, each checked, in the order of their names.
pub(super) fn checked_headers(headers: BTreeMap<String, Secret>) -> Result<Vec<AddedHeader>, ApiError> {
    if headers.len() > MAX_HEADERS {
        return Err(ApiError::field("/headers", format!("it has more than {MAX_HEADERS} entries")));
    }
    let mut checked: Vec<AddedHeader> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let pointer = format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
        let header = AddedHeader::new(&name, value).map_err(|error| ApiError::field(pointer.clone(), error.to_string()))?;
        if checked.iter().any(|other| other.name == header.name) {
            return Err(ApiError::field(pointer, "the header is there twice; case makes no difference"));
        }
        checked.push(header);
    }
    if checked.iter().map(AddedHeader::bytes).sum::<usize>() > MAX_HEADER_BYTES {
        return Err(ApiError::field("/headers", format!("together they have more than {MAX_HEADER_BYTES} bytes")));
    }
    checked.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(checked)
}
