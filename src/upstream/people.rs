//! People: who has an e-mail address.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/api/users/users_meetingroom_email>. There is no call for it; the answer for
//! someone's personal space names its owner.

use serde::Deserialize;

use super::rest::{RestClient, RestError};
use crate::domain::Credential;

impl RestClient {
    /// The id of the user with this e-mail address (`GET /api/users/meetingroom/{email}`); `None` if there is none.
    pub async fn user_by_email(&self, credential: &Credential, email: &str) -> Result<Option<String>, RestError> {
        let found: Result<MeetingRoom, RestError> = self.get(credential, &["api", "users", "meetingroom", email], &[]).await;
        match found {
            Ok(room) => Ok(Some(room.data.cid)),
            Err(RestError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
struct MeetingRoom {
    data: Owned,
}

#[derive(Deserialize)]
struct Owned {
    cid: String,
}
