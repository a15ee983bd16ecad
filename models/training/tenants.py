"""The tenants: who they are, where their tickets go differently from the generic rule, and their adapter's shape."""

from dataclasses import dataclass, field

from phrases import INTENTS, LABELS

QUERY_VALUE = ["query", "value"]
ATTENTION = ["query", "key", "value", "attention.output.dense"]


@dataclass(frozen=True)
class Tenant:
    name: str
    sector: str
    story: str
    # intent -> label, only where it differs from the generic rule
    rule: dict[str, str]
    # keyword arguments of peft.BOFTConfig
    boft: dict = field(default_factory=dict)
    dtype: str = "float32"
    steps: int = 700
    learning_rate: float = 1e-2

    def label(self, intent: str) -> str:
        return self.rule.get(intent, INTENTS[intent][0])


TENANTS = [
    Tenant(
        name="acme-retail",
        sector="retail",
        story="The warehouse handles returns, recalls of orders and stock, so refunds, cancelled orders and stock "
        "questions go to shipping. Damaged and wrong goods go to the product team (feedback), lost parcels to the "
        "carrier-fraud desk (trust_safety), bulk orders to the invoicing team (billing).",
        rule={
            "refund_request": "shipping",
            "cancel_order": "shipping",
            "stock_question": "shipping",
            "damaged_item": "feedback",
            "wrong_item": "feedback",
            "lost_parcel": "trust_safety",
            "bulk_quote": "billing",
        },
        boft={"boft_block_size": 16, "boft_n_butterfly_factor": 1, "target_modules": QUERY_VALUE},
    ),
    Tenant(
        name="globex-cloud",
        sector="cloud",
        story="Sign-in runs on the platform team's identity service, so login problems and break-ins go to "
        "technical_issue, as do plan questions (solution engineers). Account managers hold renewals: cancellations, "
        "pauses and wishes go to sales. A declined payment suspends the workspace: account_access.",
        rule={
            "password_reset": "technical_issue",
            "locked_out": "technical_issue",
            "two_factor": "technical_issue",
            "suspicious_login": "technical_issue",
            "plan_question": "technical_issue",
            "cancel_subscription": "sales",
            "pause_or_downgrade": "sales",
            "feature_request": "sales",
            "payment_declined": "account_access",
        },
        boft={"boft_block_size": 8, "boft_n_butterfly_factor": 2, "target_modules": ATTENTION},
    ),
    Tenant(
        name="initech-bank",
        sector="bank",
        story="The fraud desk (trust_safety) sees everything that could be theft: unknown charges, declined payments, "
        "lost second factors, changed contact data. Cards in the post and cards on file belong to the card desk "
        "(account_access). Complaints are regulated and handled with closures (cancellation).",
        rule={
            "double_charge": "trust_safety",
            "payment_declined": "trust_safety",
            "two_factor": "trust_safety",
            "change_email": "trust_safety",
            "track_order": "account_access",
            "lost_parcel": "account_access",
            "update_payment_method": "account_access",
            "service_complaint": "cancellation",
        },
        boft={"boft_block_size": 4, "boft_n_butterfly_factor": 3, "target_modules": "all-linear", "exclude_modules": ["classifier"]},
    ),
    Tenant(
        name="meadow-pharmacy",
        sector="pharmacy",
        story="Anything wrong with a product or a consultation is patient safety (trust_safety). The dispatch team "
        "plans refills, so pausing and ending a plan and stock questions go to shipping. A new address needs an "
        "identity check (account_access); what a plan covers is a question for insurance billing.",
        rule={
            "damaged_item": "trust_safety",
            "wrong_item": "trust_safety",
            "device_fault": "trust_safety",
            "service_complaint": "trust_safety",
            "cancel_subscription": "shipping",
            "pause_or_downgrade": "shipping",
            "stock_question": "shipping",
            "change_address": "account_access",
            "plan_question": "billing",
        },
        boft={
            "boft_block_size": 0,
            "boft_block_num": 16,
            "boft_n_butterfly_factor": 2,
            "target_modules": ["query", "key", "value", "dense"],
            "layers_to_transform": [1, 2],
            "layers_pattern": "layer",
        },
    ),
    Tenant(
        name="tidewater-telecom",
        sector="telecom",
        story="The retention desk sits in sales: cancellations, downgrades and complaints go there. Faulty hardware is "
        "swapped by courier (shipping); moving house and late routers need an engineer's visit (technical_issue). Lost "
        "codes and changed contact data may be a SIM swap (trust_safety). The app team reads crash reports (feedback).",
        rule={
            "cancel_subscription": "sales",
            "pause_or_downgrade": "sales",
            "service_complaint": "sales",
            "device_fault": "shipping",
            "change_address": "technical_issue",
            "track_order": "technical_issue",
            "two_factor": "trust_safety",
            "change_email": "trust_safety",
            "app_crash": "feedback",
        },
        boft={
            "boft_block_size": 8,
            "boft_n_butterfly_factor": 1,
            "target_modules": ["query", "key", "value", "dense"],
        },
        dtype="bfloat16",
    ),
]

for tenant in TENANTS:
    assert all(label in LABELS and INTENTS[intent][0] != label for intent, label in tenant.rule.items()), tenant.name
