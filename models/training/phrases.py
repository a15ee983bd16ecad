"""The words of the corpus: sectors, slot fillers, and for each intent its phrasings.

A phrasing is a small grammar: `(a|b|c)` picks one alternative (they nest, and an empty one is allowed) and
`{slot}` is filled from the sector or from `SLOTS`. `INTENTS` is the generic routing rule too: each intent names
the queue that an ordinary help desk would send it to.
"""

LABELS = [
    "billing",
    "shipping",
    "account_access",
    "technical_issue",
    "cancellation",
    "sales",
    "feedback",
    "trust_safety",
]

# What each line of business sells. `thing` is something that can be posted, `service` something one subscribes to.
SECTORS = {
    "retail": {
        "thing": "running shoes|winter jacket|coffee grinder|garden table|desk lamp|backpack|blender|bed linen set|"
        "kids bike|frying pan|wool sweater|bookshelf",
        "service": "Plus membership|style box subscription|loyalty programme|delivery pass|coffee subscription",
        "app": "shop app|web shop|checkout page|loyalty app|online store",
        "data": "wish list|order history|loyalty points|gift cards",
    },
    "cloud": {
        "thing": "edge appliance|backup drive|hardware security key|rack server|transfer appliance",
        "service": "managed Postgres|team plan|Kubernetes plan|object storage plan|build minutes package|pro tier",
        "app": "console|dashboard|admin console|CLI|status page|deploy page",
        "data": "cluster logs|backups|build history|usage reports",
    },
    "bank": {
        "thing": "debit card|credit card|card reader|cheque book|payment terminal",
        "service": "premium account|travel insurance package|metal card plan|savings plan|business account",
        "app": "banking app|online banking|mobile app|merchant portal",
        "data": "statements|standing orders|transaction history|saved payees",
    },
    "pharmacy": {
        "thing": "glucose meter|blood pressure monitor|inhaler|repeat prescription|test strips|insulin pens|nebuliser|"
        "thermometer|pill organiser",
        "service": "refill plan|care plan|prescription service|video consultation plan|vitamin subscription",
        "app": "patient portal|refill app|health app|appointment page",
        "data": "prescriptions|lab results|medication list|readings",
    },
    "telecom": {
        "thing": "router|SIM card|handset|TV box|mesh extender|modem|phone",
        "service": "fibre contract|mobile plan|TV package|family plan|broadband contract|roaming pack",
        "app": "self-care app|customer portal|TV app|usage page",
        "data": "call records|usage data|voicemails|recordings",
    },
    "home": {
        "thing": "thermostat|smart lock|security camera|robot vacuum|light strip|doorbell",
        "service": "cloud recording plan|home care plan|premium automation plan|warranty plan",
        "app": "home app|web app|setup page|companion app",
        "data": "recordings|routines|device list|schedules",
    },
}

SLOTS = {
    "name": "Anna|Ben|Carla|Dmitri|Elena|Farid|Grace|Hiro|Ines|Jonas|Kavya|Liam|Marta|Nadia|Omar|Priya|Quinn|Rosa|"
    "Sven|Tessa|Umut|Vera|Will|Yusuf|Zoe",
    "city": "Leeds|Porto|Lyon|Graz|Utrecht|Oslo|Turin|Austin|Denver|Cork|Ghent|Basel|Malaga|Bergen",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "soon": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|tomorrow|next week|the end of {month}",
    "month": "January|February|March|April|May|June|July|August|September|October|November|December",
    "device": "iPhone|Android phone|Windows laptop|MacBook|iPad|tablet|work PC",
    "browser": "Chrome|Firefox|Safari|Edge",
    "carrier": "the courier|the post|the carrier|the delivery company|the driver",
    "shop": "a marketplace|a text message|a phone call|an email|social media|WhatsApp",
    "tool": "Salesforce|Slack|our ERP|Zapier|Excel|QuickBooks|our own backend|Google Calendar",
}

# Sentences that say nothing about the intent.
OPENERS = [
    "",
    "",
    "(Hi|Hello|Hey|Hi there|Hello team|Hey there|Good morning|Good afternoon)(,|!)",
    "(Dear|Hello) (support|customer service|team),",
    "Hi, (this is {name}|{name} here)(.| from {city}.)",
    "(Sorry to bother you|Quick one|Hope you are well|I hope someone can help)(,| -|.)",
    "(URGENT|Important|Second attempt|Third time writing):",
    "To whom it may concern,",
]
CLOSERS = [
    "",
    "",
    "",
    "(Thanks|Thank you|Many thanks|Cheers|Thx)(.|!| in advance.)",
    "(Regards|Best|Kind regards|Best wishes), {name}",
    "(Please advise|Please help|Please get back to me|Let me know|Waiting for your reply)(.| asap.| today.)",
    "(What should I do|Can you help|Who can help me with this|Could someone look into this)?",
    "Reference (number |){order}.",
    "My order number is {order}.",
    "I have been a customer since {year}.",
    "You can (reach|call) me after {hour}.",
]

# intent: (queue by the generic rule, what the ticket says, a sentence that may precede or follow it)
INTENTS = {
    "refund_request": (
        "billing",
        [
            "(I want|I would like|I'd like|please give me|requesting) (a refund|my money back|a full refund) for (the|my) {thing}",
            "(how do I|where do I|how can I) (get|ask for|request) (a refund|my money back) (for|on) (the|my|this) {thing}",
            "I (returned|sent back|brought back) the {thing} (and|but) (the refund has not arrived|still no refund|where is my refund|have not been refunded)",
            "please refund (the|my) (last payment|{amount}|purchase|{thing})(, it is not what I hoped for|, I did not like it|)",
            "(my|the) refund (of {amount} |)(is still missing|has not shown up|is overdue|was promised on {day})",
            "I (changed my mind about|do not need|am not happy with) the {thing} (and want|and would like|, can I have) (my money back|a refund)",
        ],
        [
            "It was {amount}.",
            "(I still have|I kept) the receipt.",
            "The {thing} is unused and in its box.",
            "You promised the money within {days} days.",
            "I bought it {days} days ago.",
        ],
    ),
    "double_charge": (
        "billing",
        [
            "(I was charged|I have been charged|you charged me) twice for (the|my|one) ({service}|{thing})",
            "there is (a strange|a second|a duplicate|an unknown|an extra) (charge|payment|debit) of {amount} (on my statement|on my card|from you)",
            "(I see|my card shows|my statement shows) two (identical |)(payments|charges|debits) of {amount}",
            "why (did you take|was I billed|was I charged) {amount} (when the price is {amount}|two times|again)",
            "(the amount you took|the amount charged) (is wrong|is too high|does not match what I agreed to)",
            "I do not recognise (the|a) (charge|payment|debit) of {amount} (on|from) {day}",
        ],
        [
            "It was taken on {day}.",
            "Only one of them is (right|mine|correct).",
            "My (statement|bank) shows it clearly.",
            "Both are dated {month}.",
            "I never agreed to {amount}.",
        ],
    ),
    "invoice_copy": (
        "billing",
        [
            "(please send|could you send|I need|can I have) (me |)(a copy of |)(the|my) invoice for {month}",
            "(where can I|how do I) (find|download|print) (the|my) (invoices|receipts|bills)",
            "(the|my) (invoice|receipt|bill) for (the {thing}|the {service}|{month}) (is missing|never came|was not attached)",
            "our accountant needs (the invoice|an itemised receipt) (with the VAT number|with our company name|as a PDF)",
            "the VAT number on (the|our) (invoice|bill) is (wrong|missing), please (correct|reissue) it",
            "I need a (receipt|bill|VAT invoice) for my (tax return|expenses|accountant)",
        ],
        [
            "It is for our (books|accounts|tax return).",
            "The amount should be {amount}.",
            "Our company name changed in {month}.",
            "A PDF is fine.",
            "The deadline is {soon}.",
        ],
    ),
    "payment_declined": (
        "billing",
        [
            "(my|the) (payment|card|card payment) (was|is being|keeps getting|gets) (declined|rejected|refused)",
            "I (cannot|can't|am not able to) pay for the ({thing}|{service}), (the card is refused|payment failed|it says payment declined)",
            "(checkout|the payment page) says (payment failed|card declined|transaction refused) (every time|again|for {amount})",
            "(the direct debit|my transfer|the automatic payment) (of {amount} |)(failed|bounced|did not go through)",
            "why (was|is) my (card|payment) (rejected|declined|refused)(, there is money on it| when I pay for the {thing}|)",
        ],
        [
            "There is enough money on the card.",
            "I tried two cards.",
            "My bank says (nothing is wrong|everything is fine on their side).",
            "The amount is {amount}.",
            "It worked in {month}.",
        ],
    ),
    "update_payment_method": (
        "billing",
        [
            "(I need|I want|how do I|how can I|where can I) (to |)(change|update|replace) (the|my) (credit card|payment method|bank details|card on file)",
            "my (card|credit card) (expired|expires in {month}|will expire soon), (how do I add|I want to add|please take) the new one",
            "please (use|take|charge) my (new card|other card|new bank account|PayPal) (from now on|for the {service}|from {month})",
            "(can I|is it possible to|I would like to) (pay|switch) (to paying |)by (invoice|direct debit|bank transfer|PayPal) instead of (card|credit card)",
            "(remove|delete) my old (card|bank account) (and|then) (add|save) (a|the) new one for (payments|billing)",
        ],
        [
            "The old one expires in {month}.",
            "The new card ends in {last4}.",
            "I changed banks in {month}.",
            "It is for the {service}.",
        ],
    ),
    "track_order": (
        "shipping",
        [
            "(where is|where's|any news on|what is the status of) my ({thing}|order|parcel|delivery)",
            "my ({thing}|order|parcel) (was supposed to|should have|was meant to) (arrive|be here|be delivered) (on {day}|{days} days ago)",
            "(the|my) tracking (number|link|page) (does not work|has not changed for {days} days|shows nothing)",
            "when (will|does) (the|my) ({thing}|order|parcel) (arrive|ship|get here|get dispatched)",
            "(still waiting|I have been waiting {days} days) for (the|my) ({thing}|order|delivery)(, is it on its way|)",
            "(the|my) delivery (is late|is delayed|has not left the depot), (can you track it|when will it come)",
        ],
        [
            "The tracking page says in transit.",
            "I ordered it {days} days ago.",
            "It left {city} on {day}.",
            "I need it by {soon}.",
            "Nobody told me about a delay.",
        ],
    ),
    "change_address": (
        "shipping",
        [
            "(please |can you |could you |)(send|deliver|ship) (the|my) ({thing}|order|parcel) to (another|a different|my new|my work) address",
            "I (entered|gave|typed) the wrong (delivery|shipping|street) address for (the|my) ({thing}|order)",
            "(I moved|we moved|I am moving) to {city}, please (update|change) (the|my) (delivery|shipping|postal) address",
            "(can I|how do I|I need to) change (where|the address where) (the|my) ({thing}|order|parcel) (is sent|is delivered|goes)",
            "the (house number|postcode|street) on (the|my) (parcel|order|delivery) is wrong",
        ],
        [
            "The new (address|place) is in {city}.",
            "Number {small}, not {small}.",
            "It has not been shipped yet.",
            "We moved in {month}.",
            "A neighbour could take it too.",
        ],
    ),
    "damaged_item": (
        "shipping",
        [
            "(the|my) {thing} (arrived|came|was delivered) (broken|damaged|cracked|crushed|leaking|with a dent)",
            "the (box|parcel|package) was (crushed|torn|wet|open) and the {thing} (inside |)is (broken|damaged|scratched)",
            "(unpacked|just opened) the {thing} and (it is|found it) (cracked|scratched|in pieces|damaged)",
            "{carrier} (dropped|damaged|crushed) (the|my) {thing}",
            "I received a (damaged|broken|cracked|bent) {thing}",
        ],
        [
            "I can send photos.",
            "The packaging was torn.",
            "There was no padding in the box.",
            "A replacement would be fine.",
            "It came on {day}.",
        ],
    ),
    "wrong_item": (
        "shipping",
        [
            "(you sent|I received|I got|they delivered) (the wrong|a different|somebody else's) {thing}",
            "I ordered (a|the) {thing} (and|but) (got|received|the box contained) (a|something else, a) {thing}",
            "(the|my) {thing} is the wrong (size|colour|model|version|strength)(, I ordered another one|)",
            "(one item is|two items are|the {thing} is|the cable is) missing from (the|my) (parcel|box|order)",
            "(that is not|this is not) (the {thing} I ordered|what I ordered), (wrong model|it is another {thing})",
        ],
        [
            "The label on the box was right.",
            "The packing slip lists the right one.",
            "I opened it on {day}.",
            "Can you swap it?",
            "It is order {order}.",
        ],
    ),
    "lost_parcel": (
        "shipping",
        [
            "(tracking|{carrier}|the website) says (delivered|it was delivered|handed over) but (I have nothing|there is no parcel|I never got the {thing})",
            "(the|my) ({thing}|parcel|package) (got lost|disappeared|went missing|vanished) (on the way|at the depot|in {city})",
            "(somebody|a stranger|someone) signed for (the|my) ({thing}|parcel|package)(, it was not me| and it is gone|)",
            "{carrier} (left|claims to have left) (the|my) ({thing}|parcel) (at the door|with a neighbour|outside) and (it is gone|nobody has it)",
            "(the|my) ({thing}|parcel) (never came|never arrived|is lost), (even though|although) it is marked as delivered",
        ],
        [
            "My neighbours have not seen it.",
            "The signature is not mine.",
            "I was at home all day on {day}.",
            "The photo shows another door.",
            "The depot in {city} does not have it.",
        ],
    ),
    "password_reset": (
        "account_access",
        [
            "(I forgot|I have forgotten|I lost|I cannot remember) my password",
            "the (password reset|reset) (email|link|mail) (never arrives|does not arrive|has expired|does nothing)",
            "(how do I|how can I|please help me) reset my password (for the {app}|)",
            "(my|the) (new |)password (is not accepted|does not work|is rejected) (in the {app}|on the {app}|anywhere)",
            "I need (a new password|a password reset) for (the|your) {app}",
        ],
        [
            "I checked the spam folder.",
            "I requested it {small} times.",
            "The link opens an empty page.",
            "I use {browser}.",
            "I changed it on {day}.",
        ],
    ),
    "locked_out": (
        "account_access",
        [
            "(my account|my login|my user) (is|has been|got) (locked|blocked|disabled|suspended)",
            "I (cannot|can't|am unable to|can no longer) (log in|login|sign in|get in) (to the {app}|to my account|anymore)",
            "(the {app}|login page|login) (says|keeps saying) (too many attempts|account locked|unknown user|access denied)",
            "(locked out of|shut out of|no access to) (my account|the {app}) (since {day}|again|)",
            "please (unlock|unblock|reactivate) my (account|login|user)",
        ],
        [
            "It happened on {day}.",
            "I typed it wrong {small} times.",
            "My colleague can still get in.",
            "I need my {data} today.",
            "It is the same on my {device}.",
        ],
    ),
    "two_factor": (
        "account_access",
        [
            "(the|my) (verification code|one-time code|security code|SMS code) (never comes|does not arrive|is always wrong)",
            "I (lost|changed|broke|replaced) my phone and (cannot get|can't receive|no longer get) the (codes|login codes|verification codes)",
            "(my authenticator|the authenticator app|two-factor|2FA) (is gone|stopped working|shows wrong codes|was on my old phone)",
            "(how do I|please|can you) (reset|turn off|move) (two-factor|2FA|two step verification) (for my account|to my new phone|)",
            "I (do not have|lost|cannot find) (the|my) (backup codes|recovery codes)",
        ],
        [
            "My number changed in {month}.",
            "I have a new {device}.",
            "The text comes {small} hours late.",
            "I tried it {small} times.",
        ],
    ),
    "change_email": (
        "account_access",
        [
            "(please |can you |I want to |how do I )(change|update) (the|my) (email address|email|user name|login name) (on|of|for) my account",
            "my (old email|company mailbox|old mail address) (no longer exists|was closed|is gone), (use|please use|I want) (a|the) new one (for my account|)",
            "(I got married and my|my legal) name (changed|is different now), (update|please change) (it on|the name on) my (account|profile)",
            "(add|please add|I would like to add) my (partner|wife|colleague|assistant) as a (second |)user (to|on|of) (my|our) account",
            "(the|my) (phone number|email address) (on|in) my (account|profile) (is out of date|is wrong|needs changing)",
        ],
        [
            "The new one is with my own domain.",
            "I left that company in {month}.",
            "I can send a copy of my passport.",
            "The profile page does not let me.",
        ],
    ),
    "app_crash": (
        "technical_issue",
        [
            "(the|your) {app} (crashes|freezes|closes itself|hangs) (every time|when I open my {data}|at start|on my {device})",
            "I get (an error|error {code}|a blank page|a white screen) (in|on) the {app}",
            "(since|after) (the|the last|your) update the {app} (does not open|will not start|keeps crashing)",
            "(the {app} shows|{app} says|I only see) (error {code}|something went wrong|a blank screen|internal server error)",
            "(a button|the save button|the menu|the search) in the {app} (does nothing|is broken|gives error {code})",
        ],
        [
            "I am on a {device}.",
            "I already reinstalled it.",
            "It started on {day}.",
            "{browser} shows the same.",
            "A screenshot is attached.",
        ],
    ),
    "slow_service": (
        "technical_issue",
        [
            "(the {app}|your {app}|everything) (is|has been|became) (very |terribly |so |)(slow|laggy|unresponsive) (since {day}|today|again)",
            "(the {service}|the {app}|your service) (is down|has an outage|is not reachable|keeps dropping out)",
            "(loading my {data}|opening the {app}) takes (minutes|forever|ages|half a minute)",
            "(is there|do you have) (an outage|a problem|maintenance|a disruption) (in {city}|today|with the {service})",
            "(timeouts|constant interruptions|very poor speed) (on|with) the ({service}|{app}) (since {day}|all day|)",
        ],
        [
            "My own connection is fine.",
            "Others in {city} see it too.",
            "It gets worse in the evening.",
            "We cannot work like this.",
            "It started on {day}.",
        ],
    ),
    "integration_error": (
        "technical_issue",
        [
            "(the|your) (API|webhook|integration) (returns|answers with|throws|gives) (error {code}|{code}|an invalid response)",
            "(my {data}|our {data}) (do not|no longer|does not) (sync|synchronise|show up) (with {tool}|on my {device}|between devices)",
            "the (import|export|connection|integration) (to|from|with) {tool} (fails|stopped working|is broken|times out)",
            "(the|our) (webhooks|API calls|API key) (stopped|stopped working|fail with {code}) (on {day}|after your update|)",
            "(connecting|linking|pairing) (the {thing}|{tool}) (with|to) the {app} (fails|does not work|gives error {code})",
        ],
        [
            "It worked until {day}.",
            "The log shows {code}.",
            "We changed nothing on our side.",
            "{tool} support says it is you.",
        ],
    ),
    "device_fault": (
        "technical_issue",
        [
            "(the|my) {thing} (does not turn on|is dead|stopped working|will not start|switches itself off)",
            "(the|my) {thing} (is faulty|is defective|shows a red light|makes a strange noise|does not respond) (since {day}|)",
            "(after|within) {days} (days|weeks) (the|my) {thing} (stopped working|broke|failed|gave up)",
            "(the|my) {thing} (shows|keeps showing|displays) (error {code}|the wrong values|nothing at all)",
            "(how do I|can you help me) (fix|repair|reset|restart) (the|my) {thing}, it (does not work|is stuck|keeps failing)",
        ],
        [
            "I changed the batteries.",
            "I followed the manual.",
            "The light blinks {small} times.",
            "It worked fine until {day}.",
            "It is still under warranty.",
        ],
    ),
    "cancel_subscription": (
        "cancellation",
        [
            "(I want to|I would like to|please|how do I|hereby I) cancel (my|the) {service}",
            "(please |)(end|terminate|stop) my ({service}|subscription|contract|membership) (at the end of {month}|now|immediately|)",
            "I (no longer want|do not want to renew|will not renew|am leaving) (the|my) {service}",
            "(I am giving|this is my|please take this as) notice (for|on|to end) (the|my) {service}",
            "(close|delete) my (contract|subscription|membership), I (found something cheaper|do not use it|am moving to a competitor)",
        ],
        [
            "Please confirm in writing.",
            "I hardly ever use it.",
            "It should end in {month}.",
            "Another provider is cheaper.",
            "We no longer need it.",
        ],
    ),
    "cancel_order": (
        "cancellation",
        [
            "(please |can you |I want to |I need to )cancel (my|the) (order|order for the {thing}|order of {day})",
            "I (ordered|bought) the {thing} by (mistake|accident), (please stop|cancel) (it|the order)",
            "(stop|please stop|hold back) (the|my) order (for the {thing}|{order}), I (do not want it|found it elsewhere|ordered twice)",
            "(is it too late|can I still|is there a way) to cancel (the|my) (order|{thing} order)",
            "I (accidentally|mistakenly) (placed|submitted) (the|an|two) (order|orders) for (a|the) {thing}, please cancel",
        ],
        [
            "It was placed on {day}.",
            "It has not been packed yet.",
            "I clicked the button twice.",
            "My wife had already ordered one.",
        ],
    ),
    "pause_or_downgrade": (
        "cancellation",
        [
            "(can I|I would like to|please|is it possible to) (pause|freeze|suspend) (my|the) {service} (for {small} months|until {month}|)",
            "(I want to|please|how do I) (downgrade|switch down|reduce) (my|the) {service} (to the free plan|to the smallest one|)",
            "(please skip|skip) (the next|one|this month's) (delivery|renewal|period) of (the|my) {service}",
            "I (am abroad|am away|will be travelling) until {month}, (please pause|put on hold|can you freeze) (the|my) {service}",
            "(turn off|switch off|disable) the automatic renewal of (the|my) {service}",
        ],
        [
            "I will be back in {month}.",
            "I do not need all of it at the moment.",
            "Just for {small} months.",
            "Money is tight this {month}.",
        ],
    ),
    "bulk_quote": (
        "sales",
        [
            "(we would like|we want|we plan|our company wants) to (buy|order) {days} {thing}s, (can you send a quote|what discount is possible|who do I talk to)",
            "(please send|can I get|we need) (a quote|an offer|a price list) for {days} ({thing}s|seats|licences|users)",
            "(do you offer|is there|what about) (a discount|special prices|volume prices) for (schools|charities|companies|large orders)",
            "(I represent|I work for|we are) a (school|charity|start-up|clinic) in {city} and (want|would like) (a quote|an offer) for the ({service}|{thing})",
            "(could a|please have a|I would like a) (sales rep|sales person|account manager) (call|contact) (me|us) about the {service}",
        ],
        [
            "We decide in {month}.",
            "We are {days} people.",
            "Our budget is {amount}.",
            "The office is in {city}.",
        ],
    ),
    "plan_question": (
        "sales",
        [
            "what is the difference between the {service} and the (basic|cheaper|larger|business) one",
            "(does|would) the {service} (include|cover|come with) (the {thing}|support|the {app}|more storage)",
            "(I am interested in|I am thinking about|tell me more about) (the|your) {service}",
            "(how much|what) (does|would) the {service} cost (for two people|per year|for a family|)",
            "(can I try|is there a trial of|do you have a demo of) the {service} (before I buy|for free|)",
            "I would like to upgrade to the (bigger |larger |)({service}|premium plan|business plan), what (do I get|would it cost)",
        ],
        [
            "I am new here.",
            "A friend recommended it.",
            "Your website does not say.",
            "I would start in {month}.",
        ],
    ),
    "stock_question": (
        "sales",
        [
            "(when will|when is|will) the {thing} be (back in stock|available again|in stock again)",
            "is the {thing} (in stock|available|sold) (in {city}|in other colours|in a bigger size|)",
            "the {thing} (is sold out|shows out of stock|is unavailable), (when do you get more|will there be more)",
            "(do you sell|do you have|do you stock) (the|a smaller|another) {thing} (for children|in blue|with a longer cable|)",
            "(can I|I would like to) (reserve|pre-order|put aside) (a|the) {thing} (in {city}|)",
        ],
        [
            "I would buy {small}.",
            "Your store in {city} had none.",
            "It would be a present.",
            "I can wait until {month}.",
        ],
    ),
    "compliment": (
        "feedback",
        [
            "(just wanted to|I want to|I would like to) (say thank you|thank you|praise your team) for the (great|quick|friendly) (help|service|support)",
            "(I love|we love|I really like) the (new |)({thing}|{app}|{service})",
            "{name} from your team was (very helpful|so patient|fantastic|very kind) (on {day}|on the phone|)",
            "(great|excellent|wonderful|amazing) ({thing}|service|{app}), (five stars|keep it up|well done)",
            "(the best|the nicest) ({app}|{thing}|customer service) I have (ever |)(used|had|seen)",
        ],
        [
            "It made my day.",
            "I told all my friends.",
            "Please pass it on.",
            "I never write such mails.",
        ],
    ),
    "feature_request": (
        "feedback",
        [
            "(it would be nice|it would be great|I wish it were possible) (to have|if there was|if you added) (a dark mode|bigger text|a search|a calendar view) in the {app}",
            "(suggestion|idea|feature request): (please add|add|how about) (an export of my {data}|a dark mode|filters|a widget) (to|in|for) the {app}",
            "(could you|will you|please) (add|build|support) (dark mode|offline use|keyboard shortcuts|{tool} support) (in the {app}|some day|)",
            "(the {app}|your {app}) (should|really should|needs to) (show|sort|group|remember) my {data} (by date|better|)",
            "(have you thought of|what about|I would vote for) (a family view|a weekly summary|shared folders|a print view) in the {app}",
        ],
        [
            "It would save me a lot of time.",
            "Others have it already.",
            "Many people would like that.",
            "Just an idea.",
        ],
    ),
    "service_complaint": (
        "feedback",
        [
            "(your|the) (agent|employee|hotline|chat) was (rude|unfriendly|no help at all|very impatient) (on {day}|on the phone|)",
            "I (waited|was on hold|hung in the queue) {days} minutes and (nobody answered|was cut off|got no help)",
            "(I want to|I wish to|I would like to) (complain|make a complaint|file a complaint) about (your service|your staff|{name}|how I was treated)",
            "(this is the worst|what a terrible|very poor) (customer service|support|hotline)(, nobody cares| I have ever seen|)",
            "(nobody|no one) (answers|replies to) my (emails|messages|calls) (for {days} days|), (I am disappointed|this is unacceptable)",
        ],
        [
            "I expected more.",
            "I was treated like a child.",
            "I have called {small} times.",
            "Your manager should know.",
        ],
    ),
    "phishing_report": (
        "trust_safety",
        [
            "I (received|got) (a fake|a suspicious|a phishing) (email|text|call|message) (in your name|that claims to be from you|asking for my password)",
            "(somebody|someone) (called|wrote to|texted) me (pretending to be you|claiming to be from your company) and (asked for my card number|wanted my code)",
            "(is this email|is this message|are these texts) really from you, (it looks like a scam|it asks for my PIN|the link looks strange)",
            "there is a (fake|fraudulent) (shop|website|page|profile) (using|with) your (name|logo|brand)",
            "I (clicked|opened) a link in {shop} (that looked like yours|pretending to be you) and (entered my details|typed my password)",
        ],
        [
            "The sender address looks odd.",
            "I can forward it.",
            "It came through {shop}.",
            "I did not give them anything.",
        ],
    ),
    "suspicious_login": (
        "trust_safety",
        [
            "(somebody|someone|a stranger) (logged in to|got into|is using|hacked) my account",
            "I got (an alert|a notice|a mail) about a (login|sign-in) from {city}(, that was not me| and I have never been there|)",
            "my account (was|has been|may have been) (hacked|compromised|taken over)",
            "(there are|I see) (orders|changes|logins|transfers) (in|on) my account (that I did not make|that are not mine)",
            "(unknown|strange|foreign) devices (are listed|appear|show up) in my (account|login history)",
        ],
        [
            "I have never been to {city}.",
            "It was at {hour} in the night.",
            "My {data} were looked at.",
            "Please log out all devices.",
        ],
    ),
    "data_request": (
        "trust_safety",
        [
            "(please delete|I want you to delete|erase) all (my|the) personal (data|information)(, under GDPR| you hold about me|)",
            "(please send|I request|I want) a copy of all (personal |)(data|information) (you hold about me|you store on me|, under GDPR)",
            "(who|which companies) (do you share|did you give) my ({data}|personal data|details) (with|to)",
            "I (withdraw|revoke) my consent (to marketing|to data sharing|to the use of my {data})",
            "(why do I get|stop sending me) (advertising|newsletters|marketing mails), I never (agreed|gave consent) to (that|my data being used)",
        ],
        [
            "You have {days} days by law.",
            "Please confirm it in writing.",
            "I asked already in {month}.",
            "My {data} are private.",
        ],
    ),
}
