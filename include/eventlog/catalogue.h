/* SPDX-License-Identifier: MIT */
#ifndef EVENTLOG_CATALOGUE_H
#define EVENTLOG_CATALOGUE_H

/*
 * Every event there is: X(id, symbol, name, channel, category, level).  Ids and names are a contract with those who
 * read the log and are never reused.  1 to 999 are the connector as a whole, 1000s PKCS, 2000s imported PFX, 3000s
 * revocation, 4000s SCEP, 5000s health.  "Screp" in 4000 is the spelling that monitoring already looks for; readers
 * accept the other one too.
 */

#include <stddef.h>

#include "base/compiler.h"

/* clang-format off */
#define EVENT_CATALOGUE(X) \
    X(1, CONNECTOR_STARTED, "ConnectorStarted", ADMIN, GENERAL, INFORMATION) \
    X(2, CONNECTOR_STOPPED, "ConnectorStopped", ADMIN, GENERAL, INFORMATION) \
    X(3, CONNECTOR_START_FAILED, "ConnectorStartFailed", ADMIN, GENERAL, ERROR) \
    X(4, JOURNAL_RESUMED, "JournalResumed", OPERATIONAL, GENERAL, INFORMATION) \
    X(10, CONFIGURATION_LOADED, "ConfigurationLoaded", ADMIN, GENERAL, INFORMATION) \
    X(11, CONFIGURATION_SETTING, "ConfigurationSetting", OPERATIONAL, GENERAL, INFORMATION) \
    X(12, CONFIGURATION_CHANGED, "ConfigurationChanged", ADMIN, GENERAL, INFORMATION) \
    X(13, CONFIGURATION_REJECTED, "ConfigurationRejected", ADMIN, GENERAL, ERROR) \
    X(20, TOKEN_OPENED, "TokenOpened", ADMIN, GENERAL, INFORMATION) \
    X(21, TOKEN_LOST, "TokenLost", ADMIN, GENERAL, ERROR) \
    X(22, TOKEN_RECOVERED, "TokenRecovered", ADMIN, GENERAL, INFORMATION) \
    X(23, TOKEN_PIN_REFUSED, "TokenPinRefused", ADMIN, GENERAL, ERROR) \
    X(24, TOKEN_KEY_REPLACED, "TokenKeyReplaced", ADMIN, GENERAL, ERROR) \
    X(25, TOKEN_KEY_UNUSABLE, "TokenKeyUnusable", ADMIN, GENERAL, ERROR) \
    X(29, CLOCK_RIGHT, "ClockRight", ADMIN, GENERAL, INFORMATION) \
    X(30, SERVICE_UNREACHABLE, "ServiceUnreachable", ADMIN, GENERAL, WARNING) \
    X(31, SERVICE_RECOVERED, "ServiceRecovered", ADMIN, GENERAL, INFORMATION) \
    X(32, SIGN_IN_FAILED, "SignInFailed", ADMIN, GENERAL, ERROR) \
    X(33, ACCOUNT_MOVED, "AccountMoved", ADMIN, GENERAL, INFORMATION) \
    X(34, FEATURE_REFUSED, "FeatureRefused", ADMIN, GENERAL, ERROR) \
    X(35, CONNECTOR_LIMIT, "ConnectorLimit", ADMIN, GENERAL, ERROR) \
    X(36, CLOCK_SKEW, "ClockSkew", ADMIN, GENERAL, WARNING) \
    X(37, IDENTITY_ENROLLED, "IdentityEnrolled", ADMIN, GENERAL, INFORMATION) \
    X(38, IDENTITY_RENEWED, "IdentityRenewed", ADMIN, GENERAL, INFORMATION) \
    X(39, IDENTITY_FAILED, "IdentityFailed", ADMIN, GENERAL, ERROR) \
    X(40, STORE_UNAVAILABLE, "StoreUnavailable", ADMIN, GENERAL, ERROR) \
    X(41, STORE_RECOVERED, "StoreRecovered", ADMIN, GENERAL, INFORMATION) \
    X(42, INSTANCE_FENCED, "InstanceFenced", ADMIN, GENERAL, ERROR) \
    X(43, INSTANCE_GONE, "InstanceGone", OPERATIONAL, GENERAL, INFORMATION) \
    X(44, INSTANCE_NAME_IN_USE, "InstanceNameInUse", ADMIN, GENERAL, WARNING) \
    X(45, LOG_UNAVAILABLE, "LogUnavailable", ADMIN, GENERAL, ERROR) \
    X(46, LOG_RECOVERED, "LogRecovered", ADMIN, GENERAL, INFORMATION) \
    X(50, CERTIFICATE_EXPIRING, "CertificateExpiring", ADMIN, GENERAL, WARNING) \
    X(51, CERTIFICATE_EXPIRED, "CertificateExpired", ADMIN, GENERAL, ERROR) \
    X(52, CHECK_FINDING, "CheckFinding", OPERATIONAL, GENERAL, WARNING) \
    X(53, CERTIFICATE_LAST_DAY, "CertificateLastDay", ADMIN, GENERAL, ERROR) \
    X(60, UPDATE_FOUND, "UpdateFound", ADMIN, GENERAL, INFORMATION) \
    X(61, UPDATE_APPLIED, "UpdateApplied", ADMIN, GENERAL, INFORMATION) \
    X(62, UPDATE_ROLLED_BACK, "UpdateRolledBack", ADMIN, GENERAL, ERROR) \
    X(70, CRL_SIGNED, "CrlSigned", OPERATIONAL, GENERAL, INFORMATION) \
    X(71, CRL_FAILED, "CrlFailed", ADMIN, GENERAL, ERROR) \
    X(72, CRL_RECOVERED, "CrlRecovered", ADMIN, GENERAL, INFORMATION) \
    X(73, CA_UNAVAILABLE, "CaUnavailable", ADMIN, GENERAL, ERROR) \
    X(74, CA_RECOVERED, "CaRecovered", ADMIN, GENERAL, INFORMATION) \
    X(80, CONNECTOR_VERSION_WARNING, "ConnectorVersionWarning", ADMIN, GENERAL, WARNING) \
    X(81, CONNECTOR_VERSION_ERROR, "ConnectorVersionError", ADMIN, GENERAL, ERROR) \
    X(82, CONNECTOR_VERSION_SUPPORTED, "ConnectorVersionSupported", ADMIN, GENERAL, INFORMATION) \
    X(90, ADMIN_DEBUG, "AdminDebug", ADMIN, GENERAL, DEBUG) \
    X(91, OPERATIONAL_DEBUG, "OperationalDebug", OPERATIONAL, GENERAL, DEBUG) \
    X(1000, PKCS_REQUEST_SUCCESS, "PkcsRequestSuccess", ADMIN, PKCS, INFORMATION) \
    X(1001, PKCS_REQUEST_FAILURE, "PkcsRequestFailure", ADMIN, PKCS, ERROR) \
    X(1002, PKCS_DOWNLOAD_SUCCESS, "PkcsDownloadSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1003, PKCS_DOWNLOAD_FAILURE, "PkcsDownloadFailure", OPERATIONAL, PKCS, ERROR) \
    X(1020, PKCS_DOWNLOADED_REQUEST, "PkcsDownloadedRequest", OPERATIONAL, PKCS, INFORMATION) \
    X(1032, PKCS_DIGI_CERT_REQUEST, "PkcsDigiCertRequest", OPERATIONAL, PKCS, INFORMATION) \
    X(1050, PKCS_ISSUED_SUCCESS, "PkcsIssuedSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1051, PKCS_ISSUED_FAILED_ATTEMPT, "PkcsIssuedFailedAttempt", OPERATIONAL, PKCS, WARNING) \
    X(1052, PKCS_ISSUED_FAILURE, "PkcsIssuedFailure", OPERATIONAL, PKCS, ERROR) \
    X(1100, PKCS_UPLOAD_SUCCESS, "PkcsUploadSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1101, PKCS_UPLOAD_FAILURE, "PkcsUploadFailure", OPERATIONAL, PKCS, ERROR) \
    X(1102, PKCS_UPLOADED_REQUEST, "PkcsUploadedRequest", OPERATIONAL, PKCS, INFORMATION) \
    X(1200, PKCS_RECRYPT_REQUEST_SUCCESS, "PkcsRecryptRequestSuccess", ADMIN, PKCS, INFORMATION) \
    X(1201, PKCS_RECRYPT_REQUEST_FAILURE, "PkcsRecryptRequestFailure", ADMIN, PKCS, ERROR) \
    X(1202, PKCS_RECRYPT_DOWNLOAD_SUCCESS, "PkcsRecryptDownloadSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1203, PKCS_RECRYPT_DOWNLOAD_FAILURE, "PkcsRecryptDownloadFailure", OPERATIONAL, PKCS, ERROR) \
    X(1220, PKCS_RECRYPT_DOWNLOADED_REQUEST, "PkcsRecryptDownloadedRequest", OPERATIONAL, PKCS, INFORMATION) \
    X(1250, PKCS_RECRYPT_REENCRYPT_SUCCESS, "PkcsRecryptReencryptSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1251, PKCS_RECRYPT_DECRYPT_SUCCESS, "PkcsRecryptDecryptSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1252, PKCS_RECRYPT_DECRYPT_FAILURE, "PkcsRecryptDecryptFailure", OPERATIONAL, PKCS, ERROR) \
    X(1253, PKCS_RECRYPT_REENCRYPT_FAILURE, "PkcsRecryptReencryptFailure", OPERATIONAL, PKCS, ERROR) \
    X(1300, PKCS_RECRYPT_UPLOAD_SUCCESS, "PkcsRecryptUploadSuccess", OPERATIONAL, PKCS, INFORMATION) \
    X(1301, PKCS_RECRYPT_UPLOAD_FAILURE, "PkcsRecryptUploadFailure", OPERATIONAL, PKCS, ERROR) \
    X(1302, PKCS_RECRYPT_UPLOADED_REQUEST, "PkcsRecryptUploadedRequest", OPERATIONAL, PKCS, INFORMATION) \
    X(2000, PKCS_IMPORT_REQUEST_SUCCESS, "PkcsImportRequestSuccess", ADMIN, PKCS_IMPORT, INFORMATION) \
    X(2001, PKCS_IMPORT_REQUEST_FAILURE, "PkcsImportRequestFailure", ADMIN, PKCS_IMPORT, ERROR) \
    X(2020, PKCS_IMPORT_DOWNLOADED_REQUEST, "PkcsImportDownloadedRequest", OPERATIONAL, PKCS_IMPORT, INFORMATION) \
    X(2050, PKCS_IMPORT_REENCRYPT_SUCCESS, "PkcsImportReencryptSuccess", OPERATIONAL, PKCS_IMPORT, INFORMATION) \
    X(2051, PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, "PkcsImportReencryptFailedAttempt", OPERATIONAL, PKCS_IMPORT, WARNING) \
    X(2052, PKCS_IMPORT_REENCRYPT_FAILURE, "PkcsImportReencryptFailure", OPERATIONAL, PKCS_IMPORT, ERROR) \
    X(2100, PKCS_IMPORT_UPLOAD_SUCCESS, "PkcsImportUploadSuccess", OPERATIONAL, PKCS_IMPORT, INFORMATION) \
    X(2101, PKCS_IMPORT_UPLOAD_FAILURE, "PkcsImportUploadFailure", OPERATIONAL, PKCS_IMPORT, ERROR) \
    X(2102, PKCS_IMPORT_UPLOADED_REQUEST, "PkcsImportUploadedRequest", OPERATIONAL, PKCS_IMPORT, INFORMATION) \
    X(2202, PKCS_IMPORT_DOWNLOAD_SUCCESS, "PkcsImportDownloadSuccess", OPERATIONAL, PKCS_IMPORT, INFORMATION) \
    X(2203, PKCS_IMPORT_DOWNLOAD_FAILURE, "PkcsImportDownloadFailure", OPERATIONAL, PKCS_IMPORT, ERROR) \
    X(3000, REVOKE_REQUEST_SUCCESS, "RevokeRequestSuccess", ADMIN, REVOCATION, INFORMATION) \
    X(3001, REVOKE_REQUEST_FAILURE, "RevokeRequestFailure", ADMIN, REVOCATION, ERROR) \
    X(3002, REVOKE_DOWNLOAD_SUCCESS, "RevokeDownloadSuccess", OPERATIONAL, REVOCATION, INFORMATION) \
    X(3003, REVOKE_DOWNLOAD_FAILURE, "RevokeDownloadFailure", OPERATIONAL, REVOCATION, ERROR) \
    X(3020, REVOKE_DOWNLOADED_REQUEST, "RevokeDownloadedRequest", OPERATIONAL, REVOCATION, INFORMATION) \
    X(3032, REVOKE_DIGICERT_REQUEST, "RevokeDigicertRequest", OPERATIONAL, REVOCATION, INFORMATION) \
    X(3050, REVOKE_SUCCESS, "RevokeSuccess", OPERATIONAL, REVOCATION, INFORMATION) \
    X(3051, REVOKE_FAILURE, "RevokeFailure", OPERATIONAL, REVOCATION, ERROR) \
    X(3052, REVOKE_FAILED_ATTEMPT, "RevokeFailedAttempt", OPERATIONAL, REVOCATION, WARNING) \
    X(3100, REVOKE_UPLOAD_SUCCESS, "RevokeUploadSuccess", OPERATIONAL, REVOCATION, INFORMATION) \
    X(3101, REVOKE_UPLOAD_FAILURE, "RevokeUploadFailure", OPERATIONAL, REVOCATION, ERROR) \
    X(3102, REVOKE_UPLOADED_REQUEST, "RevokeUploadedRequest", OPERATIONAL, REVOCATION, INFORMATION) \
    X(4000, SCREP_REQUEST_SUCCESS, "ScrepRequestSuccess", ADMIN, SCEP, INFORMATION) \
    X(4001, SCEP_REQUEST_ISSUED_FAILURE, "ScepRequestIssuedFailure", ADMIN, SCEP, ERROR) \
    X(4002, SCEP_REQUEST_UPLOAD_FAILURE, "ScepRequestUploadFailure", ADMIN, SCEP, ERROR) \
    X(4003, SCEP_REQUEST_RECEIVED, "ScepRequestReceived", OPERATIONAL, SCEP, INFORMATION) \
    X(4004, SCEP_VERIFY_SUCCESS, "ScepVerifySuccess", OPERATIONAL, SCEP, INFORMATION) \
    X(4005, SCEP_VERIFY_FAILURE, "ScepVerifyFailure", OPERATIONAL, SCEP, ERROR) \
    X(4006, SCEP_ISSUED_SUCCESS, "ScepIssuedSuccess", OPERATIONAL, SCEP, INFORMATION) \
    X(4007, SCEP_ISSUED_FAILURE, "ScepIssuedFailure", OPERATIONAL, SCEP, ERROR) \
    X(4008, SCEP_NOTIFY_SUCCESS, "ScepNotifySuccess", OPERATIONAL, SCEP, INFORMATION) \
    X(4009, SCEP_NOTIFY_ATTEMPT_FAILED, "ScepNotifyAttemptFailed", OPERATIONAL, SCEP, WARNING) \
    X(4010, SCEP_NOTIFY_SAVE_TO_DISK_FAILED, "ScepNotifySaveToDiskFailed", OPERATIONAL, SCEP, ERROR) \
    X(5000, HEALTH_MESSAGE_UPLOAD_SUCCESS, "HealthMessageUploadSuccess", OPERATIONAL, HEALTH, INFORMATION) \
    X(5001, HEALTH_MESSAGE_UPLOAD_FAILED_ATTEMPT, "HealthMessageUploadFailedAttempt", OPERATIONAL, HEALTH, WARNING) \
    X(5002, HEALTH_MESSAGE_UPLOAD_FAILURE, "HealthMessageUploadFailure", OPERATIONAL, HEALTH, ERROR)
/* clang-format on */

enum event_channel { EVENT_CHANNEL_ADMIN, EVENT_CHANNEL_OPERATIONAL };

enum event_category {
    EVENT_CATEGORY_GENERAL,
    EVENT_CATEGORY_PKCS,
    EVENT_CATEGORY_PKCS_IMPORT,
    EVENT_CATEGORY_REVOCATION,
    EVENT_CATEGORY_SCEP,
    EVENT_CATEGORY_HEALTH
};

enum event_level {
    EVENT_LEVEL_ERROR,
    EVENT_LEVEL_WARNING,
    EVENT_LEVEL_INFORMATION,
    EVENT_LEVEL_DEBUG
};

#define EVENT_ENUM(id, symbol, name, channel, category, level) EVENT_##symbol = (id),
enum event_id { EVENT_CATALOGUE(EVENT_ENUM) };
#undef EVENT_ENUM

struct event_type {
    enum event_id id;
    const char *name;
    enum event_channel channel;
    enum event_category category;
    enum event_level level;
};

/* The entry of an id; NULL when there is none. */
const struct event_type *event_type_get(int id);

/* The entry of a name, without case; "ScepRequestSuccess" finds 4000.  NULL when there is none. */
const struct event_type *event_type_find(const char *name);

/* All entries in order of id. */
const struct event_type *event_types(size_t *ret_count);

/* "Admin", "PKCS Import", "Information" …; parsing ignores case, -1 for another text. */
const char *event_channel_name(enum event_channel channel);
const char *event_category_name(enum event_category category);
const char *event_level_name(enum event_level level);
int event_channel_parse(const char *name);
int event_category_parse(const char *name);

#endif
