"""The catalogue of interface classes (Blue Book 4.3 to 4.15): numbers and names of attributes and methods.

A name may end in `@N` (exists from version N of the class) and in `!` (holds a secret: never shown); `-` is a
number that is not used. Attribute 1 is always logical_name.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.reading import Obis


@dataclass(frozen=True, slots=True)
class Member:
    """An attribute or method: number, Blue Book name, first version that has it, whether it holds a secret."""

    number: int
    name: str
    since: int = 0
    secret: bool = False


UNNAMED = Member(0, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceClass:
    """One version of an interface class. Classes that are only named have no members."""

    class_id: int
    version: int
    name: str
    attributes: tuple[Member, ...] = ()
    methods: tuple[Member, ...] = ()

    def attribute_name(self, number: int) -> str:
        """Return the Blue Book name, or `attribute N` for one that this version does not have."""
        return _name(self.attributes, number, "attribute")

    def method_name(self, number: int) -> str:
        """Return the Blue Book name, or `method N`."""
        return _name(self.methods, number, "method")


def _name(members: tuple[Member, ...], number: int, what: str) -> str:
    return next((m.name for m in members if m.number == number), f"{what} {number}")


@dataclass(frozen=True, slots=True)
class _Row:
    """One class with all its versions."""

    name: str
    attributes: tuple[Member, ...]
    methods: tuple[Member, ...]
    newest: int


def _row(name: str, attributes: str = "", methods: str = "", *, newest: int = 0) -> _Row:
    return _Row(name, (Member(1, "logical_name"), *_members(attributes, 2)), _members(methods, 1), newest)


def _members(names: str, first: int) -> tuple[Member, ...]:
    members = []
    for number, word in enumerate(names.split(), first):
        name, _, since = word.rstrip("!").partition("@")
        if name != "-":
            members.append(Member(number, name, int(since or 0), word.endswith("!")))
    return tuple(members)


_ROWS: dict[int, _Row] = {
    1: _row("data", "value"),
    3: _row("register", "value scaler_unit", "reset"),
    4: _row("extended register", "value scaler_unit status capture_time", "reset"),
    5: _row(
        "demand register",
        "current_average_value last_average_value scaler_unit status capture_time start_time_current period "
        "number_of_periods",
        "reset next_period",
    ),
    6: _row(
        "register activation",
        "register_assignment mask_list active_mask",
        "add_register add_mask delete_mask",
    ),
    7: _row(
        "profile generic",
        "buffer capture_objects capture_period sort_method sort_object entries_in_use profile_entries",
        "reset capture",
        newest=1,
    ),
    8: _row(
        "clock",
        "time time_zone status daylight_savings_begin daylight_savings_end daylight_savings_deviation "
        "daylight_savings_enabled clock_base",
        "adjust_to_quarter adjust_to_measuring_period adjust_to_minute adjust_to_preset_time "
        "preset_adjusting_time shift_time",
    ),
    9: _row("script table", "scripts", "execute"),
    10: _row("schedule", "entries", "enable_disable insert delete"),
    11: _row("special days table", "entries", "insert delete"),
    12: _row(
        "association SN",
        "object_list access_rights_list@1 security_setup_reference@2 user_list@3 current_user@3",
        "- - read_by_logicalname - change_secret - - reply_to_HLS_authentication",
        newest=4,
    ),
    15: _row(
        "association LN",
        "object_list associated_partners_id application_context_name xDLMS_context_info "
        "authentication_mechanism_name secret! association_status security_setup_reference@1 user_list@2 "
        "current_user@2",
        "reply_to_HLS_authentication change_HLS_secret add_object remove_object add_user@2 remove_user@2",
        newest=3,
    ),
    17: _row("SAP assignment", "SAP_assignment_list", "connect_logical_device"),
    18: _row(
        "image transfer",
        "image_block_size image_transferred_blocks_status image_first_not_transferred_block_number "
        "image_transfer_enabled image_transfer_status image_to_activate_info",
        "image_transfer_initiate image_block_transfer image_verify image_activate",
    ),
    19: _row(
        "IEC local port setup",
        "default_mode default_baud prop_baud response_time device_addr pass_p1! pass_p2! pass_w5!",
        newest=1,
    ),
    20: _row(
        "activity calendar",
        "calendar_name_active season_profile_active week_profile_table_active day_profile_table_active "
        "calendar_name_passive season_profile_passive week_profile_table_passive day_profile_table_passive "
        "activate_passive_calendar_time",
        "activate_passive_calendar",
    ),
    21: _row("register monitor", "thresholds monitored_value actions"),
    22: _row("single action schedule", "executed_script type execution_time"),
    23: _row(
        "IEC HDLC setup",
        "comm_speed window_size_transmit window_size_receive max_info_field_length_transmit "
        "max_info_field_length_receive inter_octet_time_out inactivity_time_out device_address",
        newest=1,
    ),
    24: _row("IEC twisted pair (1) setup", "mode comm_speed primary_address_list tabi_list", newest=1),
    25: _row("M-Bus slave port setup", "default_baud avail_baud addr_state bus_address"),
    26: _row("utility tables", "table_ID length buffer"),
    27: _row("modem configuration", "comm_speed initialization_string modem_profile", newest=1),
    28: _row(
        "auto answer",
        "mode listening_window status number_of_calls number_of_rings list_of_allowed_callers@2",
        newest=2,
    ),
    29: _row(
        "auto connect",
        "mode repetitions repetition_delay calling_window destination_list",
        "connect@2",
        newest=2,
    ),
    30: _row(
        "data protection",
        "protection_buffer protection_object_list protection_parameters_get protection_parameters_set "
        "required_protection",
        "get_protected_attributes set_protected_attributes invoke_protected_method",
    ),
    40: _row(
        "push setup",
        "push_object_list send_destination_and_method communication_window randomisation_start_interval "
        "number_of_retries repetition_delay port_reference@1 push_client_SAP@1 push_protection_parameters@1 "
        "push_operation_method@2 confirmation_parameters@2 last_confirmation_date_time@2",
        "push reset@2",
        newest=3,
    ),
    41: _row("TCP-UDP setup", "TCP-UDP_port IP_reference MSS nb_of_sim_conn inactivity_time_out"),
    42: _row(
        "IPv4 setup",
        "DL_reference IP_address multicast_IP_address IP_options subnet_mask gateway_IP_address "
        "use_DHCP_flag primary_DNS_address secondary_DNS_address",
        "add_mc_IP_address delete_mc_IP_address get_nbof_mc_IP_addresses",
    ),
    43: _row("MAC address setup", "MAC_address"),
    44: _row("PPP setup", "PHY_reference LCP_options IPCP_options PPP_authentication!"),
    45: _row("GPRS modem setup", "APN PIN_code! quality_of_service"),
    46: _row("SMTP setup", "server_port user_name login_password! server_address sender_address"),
    47: _row(
        "GSM diagnostic",
        "operator status cs_attachment ps_status cell_info adjacent_cells capture_time",
        newest=2,
    ),
    48: _row(
        "IPv6 setup",
        "DL_reference address_config_mode unicast_IPv6_addresses multicast_IPv6_addresses "
        "gateway_IPv6_addresses primary_DNS_address secondary_DNS_address traffic_class "
        "neighbor_discovery_setup",
        "add_IPv6_address remove_IPv6_address",
    ),
    61: _row("register table", "table_cell_values table_cell_definition scaler_unit", "reset capture"),
    62: _row(
        "compact data",
        "compact_buffer capture_objects template_id template_description capture_method",
        "reset capture",
        newest=1,
    ),
    63: _row("status mapping", "status_word mapping_table"),
    64: _row(
        "security setup",
        "security_policy security_suite client_system_title server_system_title certificates@1",
        "security_activate key_transfer key_agreement@1 generate_key_pair@1 "
        "generate_certificate_request@1 import_certificate@1 export_certificate@1 remove_certificate@1",
        newest=1,
    ),
    65: _row(
        "parameter monitor",
        "changed_parameter capture_time parameter_list parameter_list_name@1 hash_algorithm_id@1 "
        "parameter_value_digest@1 parameter_values@1",
        "add_parameter delete_parameter",
        newest=1,
    ),
    67: _row(
        "sensor manager",
        "serial_number metrological_identification output_type adjustment_method sealing_method raw_value "
        "scaler_unit status capture_time raw_value_thresholds raw_value_actions processed_value "
        "processed_value_thresholds processed_value_actions",
        "reset",
    ),
    68: _row(
        "arbitrator",
        "actions permissions_table weightings_table most_recent_requests_table last_outcome",
        "request_action reset",
    ),
    70: _row(
        "disconnect control",
        "output_state control_state control_mode",
        "remote_disconnect remote_reconnect",
    ),
    71: _row(
        "limiter",
        "monitored_value threshold_active threshold_normal threshold_emergency min_over_threshold_duration "
        "min_under_threshold_duration emergency_profile emergency_profile_group_id_list "
        "emergency_profile_active actions",
    ),
    # named only: what they hold is not described by this catalogue
    50: _row("S-FSK Phy&MAC setup", newest=1),
    51: _row("S-FSK active initiator"),
    52: _row("S-FSK MAC synchronization timeouts"),
    53: _row("S-FSK MAC counters"),
    55: _row("IEC 61334-4-32 LLC setup", newest=1),
    56: _row("S-FSK reporting system list"),
    57: _row("ISO/IEC 8802-2 LLC type 1 setup"),
    58: _row("ISO/IEC 8802-2 LLC type 2 setup"),
    59: _row("ISO/IEC 8802-2 LLC type 3 setup"),
    72: _row("M-Bus client", newest=1),
    73: _row("wireless mode Q channel"),
    74: _row("M-Bus master port setup"),
    111: _row("account"),
    112: _row("credit"),
    113: _row("charge"),
    115: _row("token gateway"),
    122: _row("function control"),
    123: _row("array manager"),
    124: _row("communication port protection"),
}


def catalogue(class_id: int, version: int | None = None) -> InterfaceClass | None:
    """Return a version of an interface class; None for an unknown class.

    A version newer than the catalogue, or None, stands for the newest that it has. Version 0 of security setup calls
    method 2 global_key_transfer; the later name is used for both.
    """
    row = _ROWS.get(class_id)
    if row is None:
        return None
    wanted = row.newest if version is None else min(version, row.newest)
    return InterfaceClass(
        class_id=class_id,
        version=wanted,
        name=row.name,
        attributes=tuple(m for m in row.attributes if m.since <= wanted),
        methods=tuple(m for m in row.methods if m.since <= wanted),
    )


def class_ids() -> tuple[int, ...]:
    """Return the classes of the catalogue in order."""
    return tuple(sorted(_ROWS))


def class_name(class_id: int) -> str:
    """Return the name of a class, or `class N`."""
    row = _ROWS.get(class_id)
    return row.name if row else f"class {class_id}"


def newest_version(class_id: int) -> int:
    """Return the newest version in the catalogue; 0 for an unknown class."""
    row = _ROWS.get(class_id)
    return row.newest if row else 0


def attribute_named(class_id: int, name: str) -> Member:
    """Return an attribute of any version by name; KeyError is a slip in a declaration."""
    return {m.name: m for m in _ROWS[class_id].attributes}[name]


def method_named(class_id: int, name: str) -> Member:
    """Return a method of any version by name; KeyError is a slip in a declaration."""
    return {m.name: m for m in _ROWS[class_id].methods}[name]


def attribute_label(class_id: int, obis: Obis, attribute: int) -> str:
    """Return `register 1-0:1.8.0*255 #2 value`; attribute 0 is the whole object."""
    if not attribute:
        return f"{class_name(class_id)} {obis} (all attributes)"
    found = catalogue(class_id)
    name = found.attribute_name(attribute) if found else ""
    named = name if name and not name.startswith("attribute ") else ""
    return f"{class_name(class_id)} {obis} #{attribute} {named}".rstrip()


def method_label(class_id: int, obis: Obis, method: int) -> str:
    """Return `disconnect control 0-0:96.3.10*255 method 1 remote_disconnect`."""
    found = catalogue(class_id)
    name = found.method_name(method) if found else f"method {method}"
    text = name if name.startswith("method ") else f"method {method} {name}"
    return f"{class_name(class_id)} {obis} {text}"
