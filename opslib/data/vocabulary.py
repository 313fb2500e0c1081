"""What people call their columns and how they write dates: the words that `opslib init` knows."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

# Names that people give to the contract's columns, lower case without separators.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "user_id": (
        "userid", "user", "uid", "customerid", "customer", "custid", "clientid", "memberid", "accountid", "distinctid",
        "visitorid", "personid", "playerid", "buyerid", "senderid", "sender", "src", "fromuser",
        "用户id", "用户", "会员id", "客户id",
    ),
    "ts": (
        "ts", "timestamp", "time", "datetime", "eventtime", "eventat", "createdat", "occurredat", "invoicedate",
        "orderdate", "orderedat", "paidat", "purchasedate", "purchasedat", "transactiondate", "sentat", "date", "day",
        "时间", "日期", "下单时间",
    ),
    "event": ("event", "eventname", "eventtype", "action", "activity", "behavior", "behaviour", "事件", "行为"),
    "amount": (
        "amount", "revenue", "total", "totalamount", "totalprice", "value", "sales", "payment", "paid",
        "dollarvalue", "gmv",
        "金额", "实付金额",
    ),
    "order_id": ("orderid", "order", "invoice", "invoiceno", "invoiceid", "transactionid", "orderno", "receiptid",
                 "订单号", "订单id"),
    "discount": ("discount", "discountamount", "优惠"),
    "signup_at": ("signupat", "signupdate", "registeredat", "registrationdate", "createdat", "joinedat", "firstseen",
                  "注册时间"),
    "channel": ("channel", "source", "utmsource", "acquisitionchannel", "mediasource", "渠道"),
    "domain": ("domain", "trafficdomain"),
    "date": ("date", "day", "日期"),
    "inviter_id": ("inviterid", "referrerid", "inviter"),
    "invitee_id": ("inviteeid", "refereeid", "invitee"),
    "started_at": (
        "startedat", "startdate", "startat", "start", "subscribedat", "subscriptionstart", "subscriptionstartdate",
        "subscriptiondate", "activatedat", "activationdate", "contractstart", "contractstartdate", "begindate",
        "createdat", "signupat", "signupdate", "joinedat", "joindate",
        "开始时间", "开通时间", "订阅时间",
    ),
    "ended_at": (
        "endedat", "enddate", "endat", "end", "cancelledat", "canceledat", "cancellationdate", "cancelationdate",
        "canceldate", "churnedat", "churndate", "terminatedat", "terminationdate", "subscriptionend",
        "subscriptionenddate", "contractend", "contractenddate", "expiredat",
        "结束时间", "退订时间", "取消时间", "到期时间",
    ),
    "tenure_months": ("tenuremonths", "tenureinmonths", "monthsoftenure", "tenuremonth", "monthsonbook",
                      "monthssubscribed", "tenure", "在网月数", "在网时长"),
    "ended": ("ended", "churn", "churn?", "churned", "ischurn", "ischurned", "haschurned", "churnlabel", "churnvalue",
              "churnflag", "cancelled", "canceled", "iscancelled", "iscanceled", "exited", "attrition",
              "流失", "是否流失"),
    "requests": ("requests", "hits"),
    "is_complaint": ("iscomplaint", "complaint"),
    "ticket_id": ("ticketid", "ticket", "ticketno", "ticketnumber", "caseid", "caseno", "casenumber", "complaintid",
                  "工单号", "工单id", "投诉编号"),
    "opened_at": ("openedat", "openedon", "createdat", "receivedat", "datereceived", "complaintdate", "date",
                  "投诉时间", "创建时间"),
    "closed_at": ("closedat", "closedon", "resolvedat", "关闭时间"),
    "category": ("category", "issue", "topic", "reason", "customercomplaint", "类别", "投诉类型"),
}  # fmt: skip
QUANTITY = ("quantity", "qty", "units", "数量")
UNIT_PRICE = ("unitprice", "price", "itemprice", "单价")

DATE_FORMATS = (
    "%Y%m%d", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%y", "%m-%d-%y", "%d/%m/%y",
    "%m/%d/%y", "%d-%b-%y", "%d-%b-%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S",
    "%m/%d/%y %H:%M",
    "%d/%m/%y %H:%M", "%d.%m.%Y %H:%M", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y%m%d%H%M%S",
    "%Y年%m月%d日", "%d.%m.%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%m-%d-%Y %H:%M", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S",
    "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p",
    "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip

# What a table of subscriptions, rather than of sessions or rides, has in its name or its columns' names.
SUBSCRIPTION_WORDS = ("subscri", "membership", "contract", "plan", "renew", "churn", "cancel", "mrr", "订阅", "会员")


def plain_name(name: str) -> str:
    """A name as it stands in the lists above."""
    return re.sub(r"[\s_\-.#]+", "", name).lower()


def find_named(columns: Iterable[str], target: str, taken: Container[str] = ()) -> str | None:
    """The column whose name means `target`, the clearest name first."""
    names = {plain_name(c): c for c in columns if c not in taken}
    return next((names[s] for s in (plain_name(target), *SYNONYMS.get(target, ())) if s in names), None)
